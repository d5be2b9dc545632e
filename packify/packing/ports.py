"""What goes in and out of every call of a module, besides its arguments and its result: values that its code reached in other ways.

A block reads what is its own for itself: parameters below it, sizes of what it is given. All else is passed in by the call around it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, fx, nn

from packify.capture.calls import refs
from packify.core import nested
from packify.core.report import Note
from packify.nn.wrappers import plain_name, unwrapped
from packify.packing.frames import Frame, Frames, is_number, reads_attribute

LIKE = ("dtype", "device")


class SettledPorts:
    """Settles what every call of a flat graph needs and gives.

    Attributes:
        frames: their `needs` and `gives` are filled.
        own: the names of tensors and modules by the modules that hold them.
    """

    def __init__(self, frames: Frames, own: OwnNames) -> None:
        self.frames, self.own = frames, own
        self._arguments: dict[Frame, dict[fx.Node, None]] = {}
        self._results: dict[Frame, dict[fx.Node, None]] = {}
        for frame in frames.root.frames():
            self._settle(frame)

    def _settle(self, frame: Frame) -> None:
        """What a call reads, its tensors first: of those that are there anyway it computes numbers for itself."""
        reads = list(dict.fromkeys(self._reads(frame)))
        for value in reads:
            if value in self.frames.home:
                self._require(frame, value)
        for value in reads:
            if value not in self.frames.home:
                self._repeat(frame, value)

    def _reads(self, frame: Frame) -> Any:
        for item in frame.items:
            if isinstance(item, fx.Node):
                yield from arguments_of_module(item) if frame.whole else item.all_input_nodes
            else:
                yield from self.arguments(item)
                yield from item.needs
        if frame is self.frames.root:
            yield from next(iter(self.frames.graph.find_nodes(op="output"))).all_input_nodes
        else:
            yield from self.results(frame)

    def arguments(self, frame: Frame) -> dict[fx.Node, None]:
        """The values among a call's arguments."""
        if frame not in self._arguments:
            if frame.whole:
                found = [source for item in frame.items if isinstance(item, fx.Node) for source in arguments_of_module(item)]
            else:
                found = [] if frame.call is None else self._values((frame.call.args, frame.call.kwargs))
            self._arguments[frame] = dict.fromkeys(found)
        return self._arguments[frame]

    def results(self, frame: Frame) -> dict[fx.Node, None]:
        """The values in what a call returns."""
        if frame not in self._results:
            found = [item for item in frame.items if isinstance(item, fx.Node)] if frame.whole else []
            if not frame.whole and frame.call is not None:
                found = self._values(frame.call.result)
            self._results[frame] = dict.fromkeys(found)
        return self._results[frame]

    def _values(self, described: Any) -> list[fx.Node]:
        return [self.frames.values[ref.name] for ref in refs(described) if ref.name in self.frames.values]

    # -- one value ---------------------------------------------------------------------------------------------------

    def _require(self, frame: Frame, value: fx.Node) -> None:
        """A computed value: out of the calls that it is computed in, into those that read it."""
        home = self.frames.home[value]
        if home.within(frame):
            self._give(home, frame, value)
        elif not self._is_given(frame, value):
            frame.needs[value] = None

    def _give(self, home: Frame, reader: Frame, value: fx.Node) -> None:
        for frame in home.up_to(reader):
            if value not in self.results(frame):
                frame.gives[value] = None

    def _is_given(self, frame: Frame, value: fx.Node) -> bool:
        return value in self.arguments(frame)

    def _repeat(self, frame: Frame, value: fx.Node) -> None:
        """An attribute or a number: computed again where that takes nothing new, else passed in."""
        if self._is_given(frame, value):
            return
        if self.can_repeat(frame, value):
            if asks_for_own(value) and frame.parent is not None:
                return
            for source in value.all_input_nodes:
                if source not in self.frames.home:
                    self._repeat(frame, source)
            return
        inside = [source for source in _tensors_read(value) if source in self.frames.home and self.frames.home[source].within(frame)]
        if not inside:
            frame.needs[value] = None
            return
        innermost = max((self._seen_at(source, frame) for source in inside), key=_depth)
        numbers = [source for source in value.all_input_nodes if source not in self.frames.home]
        if self.can_repeat(innermost, value) or not numbers:
            self._give(innermost, frame, value)
        else:  # of tensors in several calls
            for number in numbers:
                self._repeat(frame, number)

    def _seen_at(self, value: fx.Node, reader: Frame) -> Frame:
        """The outermost call, up to `reader`, to which the calls inside return a value."""
        frame = self.frames.home[value]
        while frame is not reader and value in self.results(frame) and frame.parent is not None:
            frame = frame.parent
        return frame

    def can_repeat(self, frame: Frame, value: fx.Node) -> bool:
        """Whether all that a value is made of is there in a call."""
        if value.op == "get_attr":
            return frame.parent is None or self.own.tensor(frame.path, str(value.target)) is not None
        if asks_for_own(value) and frame.parent is not None:
            return self.own.tensor_like(frame.path, value) is not None or self.argument_like(frame, value) is not None
        return all(self._is_there(frame, source) for source in value.all_input_nodes)

    def argument_like(self, frame: Frame, node: fx.Node) -> fx.Node | None:
        """A tensor that a call is given, of the dtype that `node` asks another for; for a device, any tensor."""
        tensors = (value for value in self.arguments(frame) if isinstance(value.meta.get("val"), Tensor))
        return next((value for value in tensors if _answers(value.meta["val"], node)), None)

    def _is_there(self, frame: Frame, value: fx.Node) -> bool:
        if value in self.frames.home:
            home = self.frames.home[value]
            returned = home.within(frame) and all(value in self.results(inner) for inner in home.up_to(frame))
            return returned or self._is_given(frame, value) or value in frame.needs
        return self._is_given(frame, value) or self.can_repeat(frame, value)


def port_notes(frames: Frames) -> Iterator[Note]:
    """What a user should know of blocks that are called otherwise than the reference's modules."""
    for path in frames.dissolved:
        yield Note(path, "", "is no block in one of its calls", "code calls it that it is no part of, or it calls a module kept whole so")
    for frame in frames.root.frames():
        for value in frame.needs:
            if reads_attribute(value):
                name = value.target if value.op == "get_attr" else value.meta.get("member_node", value).target
                yield Note(frame.path, "", f"is given {name}", "its code reads a tensor of another module, passed in by the code around")
        if any(value in frames.home for value in frame.gives):
            what = f"returns more than its result: {', '.join(_port_origin(value) for value in frame.gives if value in frames.home)}"
            yield Note(frame.path, "", what, "its code writes to what it is given, or leaves values where other code reads them")


def _port_origin(value: fx.Node) -> str:
    return str(value.meta.get("op") or value.name)


def arguments_of_module(node: fx.Node) -> list[fx.Node]:
    """The values that a call of a module's own code is given."""
    given = (node.args, node.kwargs) if node.op == "call_module" else (node.args[1:], node.kwargs)
    return [leaf for leaf in nested.leaves(given) if isinstance(leaf, fx.Node)]


def asks_for_own(node: fx.Node) -> bool:
    """The network's dtype or device, read off some tensor of its own: any other of its tensors will do."""
    source = node.args[0] if node.args else None
    return node.target is getattr and node.args[1] in LIKE and isinstance(source, fx.Node) and reads_attribute(source)


def _answers(tensor: Tensor, node: fx.Node) -> bool:
    """Whether a tensor has the dtype that `node` asks another for; for a device, any tensor will do."""
    source: Any = node.args[0]
    return bool(node.args[1] == "device" or tensor.dtype == source.meta.get("member_node", source).meta["val"].dtype)


def _tensors_read(value: fx.Node) -> list[fx.Node]:
    """The tensors that a number is computed from."""
    found = []
    for source in value.all_input_nodes:
        found += _tensors_read(source) if is_number(source) else [source]
    return found


def _depth(frame: Frame) -> int:
    return sum(1 for _ in frame.up_to(Frame("", None, None)))


class OwnNames:
    """What modules hold, themselves or through their parts, by names that start at them."""

    def __init__(self, tree: nn.Module) -> None:
        self.tree = tree
        self._tensors: dict[str, dict[int, str]] = {}
        self._modules: dict[str, dict[int, str]] = {}
        self._by_name: dict[str, Any] = {
            **{plain_name(name): tensor for name, tensor in tree.named_parameters(remove_duplicate=False)},
            **{plain_name(name): tensor for name, tensor in tree.named_buffers(remove_duplicate=False)},
            **{plain_name(name): unwrapped(module) for name, module in tree.named_modules(remove_duplicate=False)},
        }

    def tensor(self, path: str, name: str) -> str | None:
        """A tensor's name below the module at `path`; None if it is not there."""
        if below(path, name) is not None:
            return below(path, name)
        if path not in self._tensors:
            module = self._by_name[path]
            held = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
            self._tensors[path] = {id(tensor): plain_name(own) for own, tensor in reversed(held)}
        return self._tensors[path].get(id(self._by_name.get(name)))

    def module(self, path: str, name: str) -> str | None:
        """A module's name below the module at `path`; None if it is not there."""
        if below(path, name) is not None:
            return below(path, name)
        if path not in self._modules:
            held = list(self._by_name[path].named_modules(remove_duplicate=False))
            self._modules[path] = {id(unwrapped(module)): plain_name(own) for own, module in reversed(held) if own}
        return self._modules[path].get(id(self._by_name[name]))

    def reaches(self, path: str, name: str) -> bool:
        """Whether the module called `name` is a part of the one at `path`."""
        return self.module(path, name) is not None

    def tensor_like(self, path: str, node: fx.Node) -> str | None:
        """A parameter below the module at `path` that has the dtype that `node` asks another for; for a device, any tensor."""
        module = self._by_name[path]
        tensors = (*module.named_parameters(), *module.named_buffers())
        return next((plain_name(name) for name, tensor in tensors if _answers(tensor, node)), None)


def below(path: str, name: str) -> str | None:
    """``below("layer1.0", "layer1.0.conv.weight")`` is ``"conv.weight"``; None for a name of something else."""
    if not path:
        return name
    return name[len(path) + 1 :] if name.startswith(f"{path}.") else None
