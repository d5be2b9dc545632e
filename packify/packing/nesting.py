"""Nest: a flat graph per mode becomes a tree of blocks, one for every module that is called.

flat graph  --frames-->  calls as a tree  --ports-->  what each needs and gives  --small graphs-->  one graph per call
--forms-->  calls of a module that run the same graph are one form  --blocks-->  the module tree runs them
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import fx, nn

from packify.capture.calls import ModuleCall
from packify.core import nested as values
from packify.core.report import Note
from packify.nn.block import LAYER_FORMS, Form, OwnCode, base_of, block_class, code_key, remove_blocks, whole_forms
from packify.nn.exchange import PLACE, exchanged_parts, mark_places
from packify.nn.layouts import Layout
from packify.nn.members import OWN_CODE
from packify.nn.ports import PORTS, Ports
from packify.nn.wrappers import part_of
from packify.packing.frames import Frame, Frames
from packify.packing.plain_layers import runs_its_own_forward
from packify.packing.ports import OwnNames, SettledPorts, port_notes
from packify.packing.small_graphs import SmallGraph, small_graph


@dataclass
class Nested:
    """What nesting found.

    Attributes:
        roots: the graphs that the network itself runs, by the kind of its inputs.
        blocks: the forms of every module that runs small graphs.
        layers: of every layer whose own forward computes the same.
        ports: what goes in and out of every module that is called; several where it is called with several layouts.
        once_per_member: the modules whose own code runs once per member.
        notes: blocks that are called otherwise than the reference's modules: with weights of others, with more to return, or not at all.
    """

    roots: dict[str, Form] = field(default_factory=dict)
    blocks: dict[str, tuple[Form, ...]] = field(default_factory=dict)
    layers: dict[str, tuple[Form, ...]] = field(default_factory=dict)
    ports: dict[str, tuple[Ports, ...]] = field(default_factory=dict)
    once_per_member: set[str] = field(default_factory=set)
    notes: list[Note] = field(default_factory=list)


def nest(graphs: Mapping[str, fx.Graph], calls: Mapping[str, Sequence[ModuleCall]], tree: nn.Module, members: int) -> Nested:
    """The small graphs of a network.

    Args:
        graphs: flat, by their names in `FORMS`; of a packed network or of a member.
        calls: of the recording, by mode.
        tree: the module tree that the graphs run on.
        members: M; 1 for a member.
    """
    own = OwnNames(tree)
    cut: dict[int, _Mode] = {}
    pairs: dict[str, tuple[_Mode, _Mode]] = {}
    for kind, form in whole_forms(graphs).items():
        for mode, graph in (("eval", form.evaluation), ("train", form.training)):
            if id(graph) not in cut:
                frames = Frames(graph, calls[mode], own.reaches)
                cut[id(graph)] = _Mode(frames, SettledPorts(frames, own))
        pairs[kind] = cut[id(form.evaluation)], cut[id(form.training)]
    return _Nesting(pairs, tree, members).run()


@dataclass(eq=False)
class _Mode:
    """One flat graph, cut into calls."""

    frames: Frames
    ports: SettledPorts

    def __post_init__(self) -> None:
        self.by_path: dict[str, list[Frame]] = {}
        for frame in self.frames.root.frames():
            self.by_path.setdefault(frame.path, []).append(frame)


@dataclass(frozen=True)
class _Written:
    """A small graph with what tells it from others: its code, and the names and layouts of its ports."""

    small: SmallGraph
    code: Any
    signature: Any


class _Nesting:
    def __init__(self, pairs: Mapping[str, tuple[_Mode, _Mode]], tree: nn.Module, members: int) -> None:
        self.pairs, self.tree, self.members = pairs, tree, members
        self.modes = list(dict.fromkeys(mode for pair in pairs.values() for mode in pair))
        self.found = Nested()

    def run(self) -> Nested:
        for path in self._inner_first():
            self._settle(path)
        graphs = {mode: small_graph(mode.frames, mode.ports, mode.frames.root).graph for mode in self.modes}
        self.found.notes = list(dict.fromkeys(note for mode in self.modes for note in port_notes(mode.frames)))
        self.found.roots = {kind: Form(graphs[evaluation], graphs[training]) for kind, (evaluation, training) in self.pairs.items()}
        return self.found

    def _inner_first(self) -> list[str]:
        """The modules that are called, each after those that it calls."""
        called: dict[str, dict[str, None]] = {}
        for mode in self.modes:
            for frame in mode.frames.root.frames():
                own = called.setdefault(frame.path, {})
                own.update((item.path, None) for item in frame.items if isinstance(item, Frame))
        order: dict[str, None] = {}

        def visit(path: str) -> None:
            for inner in called[path]:
                if inner not in order:
                    visit(inner)
            order[path] = None

        visit("")
        return [path for path in order if path]

    def _settle(self, path: str) -> None:
        """The forms of one module, and which of them each of its calls runs."""
        frames = [mode.by_path.get(path, []) for mode in self.modes]
        written = {mode: {frame: self._write(mode, frame) for frame in of_mode} for mode, of_mode in zip(self.modes, frames, strict=True)}
        smalls = [one.small for of_mode in written.values() for one in of_mode.values()]
        self.found.ports[path] = _distinct(replace(small.call, members=self.members) for small in smalls)
        if any(_is_called_as_it_is(frame) for of_mode in frames for frame in of_mode):
            return
        if any(frame.whole for of_mode in frames for frame in of_mode):
            self.found.once_per_member.add(path)
        forms = self._forms(written)
        module = part_of(self.tree, path)
        plain = len(forms) == 1 and runs_its_own_forward(module, forms[0], smalls[0], self.members)
        (self.found.layers if plain else self.found.blocks)[path] = forms

    def _write(self, mode: _Mode, frame: Frame) -> _Written:
        small = small_graph(mode.frames, mode.ports, frame)
        layouts = [_axes(value) for value in (*small.inputs.values(), small.call.result)]
        code = code_key(small.graph, base_of(part_of(self.tree, frame.path)))
        return _Written(small, code, (tuple(small.inputs), str(layouts)))

    def _forms(self, written: Mapping[_Mode, Mapping[Frame, _Written]]) -> tuple[Form, ...]:
        """Calls that run the same code share a form; calls of the two modes that have the same ports make one form together.

        The block's own mode then chooses. Where the ports differ, the call does.
        """
        forms: dict[Any, Form] = {}
        numbers: dict[Any, int] = {}

        def form(first: _Written, second: _Written) -> int:
            key = (first.code, second.code)
            if key not in forms:
                forms[key] = Form(first.small.graph, first.small.graph if first.code == second.code else second.small.graph)
                numbers[key] = len(numbers)
            return numbers[key]

        for evaluation, training in self.pairs.values():
            others = {_stack(frame): (frame, one) for frame, one in written[training].items()}
            for frame, one in written[evaluation].items():
                other, theirs = others.get(_stack(frame), (frame, one))
                if theirs.signature == one.signature:
                    frame.form = other.form = form(one, theirs)
                    others.pop(_stack(frame), None)
                else:
                    frame.form = form(one, one)
            for frame, one in others.values():
                frame.form = form(one, one)
        return tuple(forms.values())


def _stack(frame: Frame) -> Any:
    return frame.call.stack if frame.call is not None else ()


def _is_called_as_it_is(frame: Frame) -> bool:
    """The module's own code is what the flat graph calls."""
    return frame.whole and any(isinstance(item, fx.Node) and item.op == "call_module" for item in frame.items)


def _tell_width(module: nn.Module, ports: Sequence[Ports]) -> None:
    """A norm without tensors has what it is given as its width; torch warns of any other in every call."""
    if not isinstance(module, nn.modules.batchnorm._NormBase) or any(True for _ in (*module.parameters(), *module.buffers())):
        return
    given = ports[0].args[0] if ports and ports[0].args else None
    if isinstance(given, Layout) and len(given.shape) > 1:
        module.num_features = given.shape[1] * (ports[0].members if given.axis == 1 else 1)


def _distinct(calls: Iterable[Ports]) -> tuple[Ports, ...]:
    """The kinds of calls that differ in the layouts, of which the first is an example."""
    found: dict[str, Ports] = {}
    for call in calls:
        found.setdefault(str([_axes(call.args), _axes(dict(call.kwargs)), _axes(call.result)]), call)
    return tuple(found.values())


def _axes(value: Any) -> Any:
    """The layouts of a port without its sizes."""
    return values.map_leaves(value, lambda leaf: (leaf.axis, len(leaf.shape)) if isinstance(leaf, Layout) else None)


@dataclass(frozen=True)
class Nest:
    """Cuts the flat graphs of a network into those of its blocks.

    Attributes:
        calls: of modules in the recording, by mode.
        members: M; 1 for a member.
        notes: for the report, of the last time.
    """

    calls: Mapping[str, Sequence[ModuleCall]]
    members: int
    notes: list[Note] = field(default_factory=list, compare=False)

    def __call__(self, graphs: Mapping[str, fx.Graph], tree: nn.Module) -> dict[str, Form]:
        """Make blocks of the modules of `tree`; what is left is what the network itself runs."""
        others = exchanged_parts(tree) if PLACE in vars(tree) else {}
        remove_blocks(tree)
        nested = nest(graphs, self.calls, tree, self.members)
        self.notes[:] = nested.notes
        for path, ports in nested.ports.items():
            module = part_of(tree, path)
            vars(module)[PORTS] = ports
            _tell_width(module, ports)
        if not others:
            mark_places(tree)
        for path, forms in (nested.layers | nested.blocks).items():
            if any(f"{path}.".startswith(f"{other}.") for other in others):
                continue
            module = part_of(tree, path)
            if path in nested.layers:
                vars(module)[LAYER_FORMS] = forms
                continue
            module.__class__ = block_class(type(module), forms)
            if path in nested.once_per_member:
                vars(module)[OWN_CODE] = OwnCode(module)
        return nested.roots

    def __deepcopy__(self, memo: dict[int, Any]) -> Nest:
        """Nothing changes it."""
        return self
