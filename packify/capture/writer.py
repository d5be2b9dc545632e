"""The fx graph of a recording while it is written: values by identity, arguments as code can hold them."""

from __future__ import annotations

import enum
import itertools
import operator as python_operator
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn

from packify.capture.calls import ModuleCall, Ref, Unwritten, described, literal, parameter_names
from packify.capture.constants import constant_value
from packify.capture.operators import RANDOM, key_of, operator_of
from packify.capture.source_lines import source_line
from packify.capture.symbolic import SymbolicNumber, plain
from packify.core import nested
from packify.core.errors import TraceError
from packify.core.report import Note
from packify.nn.tree import CONSTANT

# What fx writes into a graph's code as it is, and what torch takes a Python type for.
_LITERALS = frozenset(
    (type(None), bool, int, float, complex, str, bytes, range, type(...), torch.dtype, torch.device, torch.layout, torch.memory_format)
)
_DTYPES = {bool: torch.bool, int: torch.int64, float: torch.float64, complex: torch.complex128}

WAYS_OUT = (
    "keep the module with that line whole (leaves=[ItsType]), choose its branch by an argument of forward "
    "(concrete_args={'argument': value}), or pack the part that is free of it: packify.pack_submodule(model, \"backbone\", ...)"
)


class GraphWriter:
    """One graph. Tensors are known by identity; sizes are `SymbolicNumber`s.

    Args:
        tensors: the copy's parameters and buffers by name; of several names of one tensor, the first is used.
        data: real tensors by name, for control flow on a buffer's value; empty for a reference on the meta device.
        dtype: the network's own floating dtype, recorded as "the network's dtype" rather than as a constant.
        held: ``id`` of the tensors that modules hold as plain attributes; they are constants.
        device: the network's own device, which is what code that asks is told, recorded as "the network's device" likewise.

    Attributes:
        active: what runs is written down.
        scope: dotted names of the modules whose ``forward`` is running, the network itself (``""``) first.
        stack: the module calls that are running, outermost first, each as ``(dotted name, number of this call of it)``.
        calls: all module calls that have returned, in the order in which they started.
        written: the names of all nodes, in the order in which they were written.
        constants: tensors that the graph reads and that are neither parameters nor buffers.
        selections: ``x[mask]`` by the ``id`` of what stands for it: x, the mask, and where.
        earlier: the writers of earlier recordings of the same network.
    """

    def __init__(
        self,
        tensors: dict[str, torch.Tensor],
        data: dict[str, torch.Tensor],
        dtype: torch.dtype,
        held: set[int],
        device: torch.device,
    ) -> None:
        self.graph = fx.Graph()
        self.active = False
        self.random: Collection[Any] = RANDOM
        self.constants: dict[str, torch.Tensor] = {}
        self.scope: list[str] = [""]
        self.stack: list[tuple[str, int]] = []
        self.calls: list[ModuleCall] = []
        self.written: list[str] = []
        self.notes: list[Note] = []
        self.selections: dict[int, tuple[torch.Tensor, torch.Tensor, str]] = {}
        self.earlier: list[GraphWriter] = []
        self.tensors, self.data, self.dtype, self.device = tensors, data, dtype, device
        self.names = {id(tensor): name for name, tensor in reversed(tensors.items())}
        self._held = held
        self._known: dict[int, tuple[fx.Node, tuple[int, ...]]] = {}
        self._attributes: dict[str, fx.Node] = {}
        self._alive: list[Any] = []
        self._called: Counter[str] = Counter()

    # -- what is going on --------------------------------------------------------------------------------------------

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What runs inside is not written down."""
        was, self.active = self.active, False
        try:
            yield
        finally:
            self.active = was

    @contextmanager
    def writing(self) -> Iterator[None]:
        """What runs inside is written down."""
        was, self.active = self.active, True
        try:
            yield
        finally:
            self.active = was

    @contextmanager
    def within(self, path: str) -> Iterator[None]:
        """The ``forward`` of the module of that name is running."""
        self.scope.append(path)
        try:
            yield
        finally:
            self.scope.pop()

    def call(self, module: nn.Module, path: str, run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Write down a call of the module of that name, with its hooks, and return what it returns."""
        given = tuple(map(self._described, args))
        named = {name: self._described(value) for name, value in kwargs.items()}
        stack = (*self.stack, (path, self._called[path]))
        call = ModuleCall(stack, self.written[-1], given, named, parameter_names(module, args))
        self.calls.append(call)
        self._called[path] += 1
        self.stack.append(stack[-1])
        try:
            result = run(*args, **kwargs)
            call.result = self._described(result)
        finally:
            self.stack.pop()
            call.last = self.written[-1]
        return result

    def _described(self, value: Any) -> Any:
        """Arguments or results of a module, whose tensors and numbers are computed where they are handed over."""
        try:
            return described(value, self._described_leaf)
        except (TypeError, ValueError, RecursionError):  # a container that nobody can make again
            return Unwritten()

    def _described_leaf(self, value: Any) -> Any:
        if isinstance(value, SymbolicNumber):
            return Ref(value.node().name) if value.recorder is self else literal(plain(value))
        if not isinstance(value, torch.Tensor):
            return literal(value)
        if id(value) in self._known:
            return Ref(self._element(value).name)
        return Ref(self.attribute(self.names[id(value)]).name) if id(value) in self.names else Unwritten()

    def note(self, what: str, why: str, node: str = "") -> None:
        """Something about the line that is running, or about `node`, that a user should know."""
        self.notes.append(Note(node or self.scope[-1] or "forward", "" if node else source_line(), what, why))

    def where(self) -> str:
        """The user's line that is running, and the module it belongs to."""
        return f"{source_line()}, in {self.scope[-1] or 'forward'}"

    # -- nodes -------------------------------------------------------------------------------------------------------

    def stamp(self, node: fx.Node, value: Any, name: str) -> fx.Node:
        """What every later pass knows of a node: its value on the meta device, its operator, where it comes from."""
        node.meta.update(val=value, op=name, path=self.scope[-1], source=source_line(), stack=tuple(self.stack), inplace=False)
        self.written.append(node.name)
        if key_of(self.random, node.target if node.op == "call_function" else None, name) is not None:
            node.meta["random"] = True
        return node

    def emit(self, target: Callable[..., Any] | str, args: tuple[Any, ...], value: Any) -> fx.Node:
        """A node for a number; `target` is a function, or the name of a tensor method."""
        create = self.graph.call_method if isinstance(target, str) else self.graph.call_function
        node = create(target, self.held_values(args))  # type: ignore[arg-type]
        name = target if isinstance(target, str) else operator_of(target).name
        return self.stamp(node, value, name)

    def method(self, name: str, value: Any, *args: fx.Node) -> fx.Node:
        """A tensor's method called on nodes."""
        return self.stamp(self.graph.call_method(name, args), value, name)

    def attribute(self, name: str) -> fx.Node:
        """The node that reads a parameter, a buffer or a constant."""
        if name not in self._attributes:
            node = self._attributes[name] = self.graph.get_attr(name)
            self.stamp(node, self.tensors[name].detach().to("meta"), "get_attr")
        return self._attributes[name]

    def tensor_node(self, tensor: torch.Tensor) -> fx.Node:
        """The node that computes or reads a tensor; one that the code has made of its own data is a constant.

        Raises:
            TraceError: nothing that was recorded made it.
        """
        if id(tensor) in self._known:
            return self._element(tensor)
        if id(tensor) in self.selections:
            raise self.unselected(tensor)
        name = self.names.get(id(tensor))
        if name is None:
            value = self._made_earlier(tensor) if self.has_no_data(tensor) and id(tensor) not in self._held else tensor
            if value is None:
                raise self._unseen(tensor)
            name = constant_name(self.stack[-1][0] if self.stack else "", self.constants)
            self.constants[name] = value
            self.tensors[name] = tensor
            self.know(tensor, self.attribute(name))
        return self.attribute(name)

    def _element(self, tensor: torch.Tensor) -> fx.Node:
        """A known tensor, taken out of the tuple that it is in."""
        node, index = self._known[id(tensor)]
        value: Any = node.meta["val"] if index else None
        for position in index:
            value = value[position]
            node = self.graph.call_function(python_operator.getitem, (node, position))
            self.stamp(node, value, "getitem")
        self._known[id(tensor)] = (node, ())
        return node

    def know(self, tensor: torch.Tensor, node: fx.Node, index: tuple[int, ...] = ()) -> None:
        """`tensor` is what `node` computes, or the element of it at `index`."""
        self._known[id(tensor)] = (node, index)
        self._alive.append(tensor)

    def know_result(self, node: fx.Node, value: Any) -> Any:
        """Every tensor of a call's result is known, also in tuples of tuples."""

        def learn(item: Any, index: tuple[int, ...]) -> None:
            if isinstance(item, torch.Tensor):
                self.know(item, node, index)
            elif isinstance(item, (tuple, list)):
                for position, element in enumerate(item):
                    learn(element, (*index, position))

        learn(value, ())
        return value

    def select(self, source: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """``x[mask]``: how long that is depends on data, so all it can do is to be written to the same place of another tensor."""
        stand_in = source.new_empty((0, *source.shape[mask.dim() :]), device="meta")
        self.selections[id(stand_in)] = (source, mask, self.where())
        self._alive.append(stand_in)
        return stand_in

    # -- arguments ---------------------------------------------------------------------------------------------------

    def held_values(self, value: Any) -> Any:
        """Nested arguments as a graph holds them."""
        return nested.map_leaves(value, self._held_value)

    def _held_value(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self.tensor_node(value)
        if isinstance(value, SymbolicNumber):
            return value.node() if value.recorder is self else plain(value)
        if isinstance(value, torch.device) and self._is_own(value):
            return self._network("device", value)
        if isinstance(value, torch.dtype) and value == self.dtype:
            return self._network("dtype", value)
        return value if type(value) in _LITERALS or isinstance(value, enum.Enum) else self._literal(value)

    def _literal(self, value: Any) -> Any:
        """A value as the code of a graph can write it: arrays are constants."""
        kind = type(value)
        if kind.__module__ == "numpy" and kind.__name__ == "ndarray" and value.dtype.kind in "biufc":
            return self.tensor_node(torch.from_numpy(value.copy()))
        if kind.__module__ == "numpy" and hasattr(value, "item") and type(value.item()) in _LITERALS:
            return value.item()
        for number_or_text in (int, float, str):
            if isinstance(value, number_or_text):
                return number_or_text(value)
        if value in _DTYPES:
            return _DTYPES[value]
        raise self.refused(
            f"an argument that is a {kind.__name__}: {value!r}",
            "the code of a graph holds numbers, text, dtypes, devices and tensors, and no other objects",
        )

    def _network(self, attribute: str, value: Any) -> fx.Node:
        """The device or dtype that the network has when it runs, read off one of its tensors."""
        known = self._attributes.get(attribute)
        if known is None:
            owner = next(iter(self.tensors), None)
            first = self.attribute(owner) if owner else next(iter(self.graph.find_nodes(op="placeholder")))
            known = self._attributes[attribute] = self.graph.call_function(getattr, (first, attribute))
            self.stamp(known, value, attribute)
        return known

    # -- what is known of a tensor -----------------------------------------------------------------------------------

    def is_recorded(self, value: Any) -> bool:
        """Whether a value stands for something in this graph."""
        if isinstance(value, torch.Tensor):
            return id(value) in self._known or id(value) in self.names or id(value) in self.selections
        if isinstance(value, torch.device):
            return self._is_own(value)
        return isinstance(value, SymbolicNumber) and value.recorder is self

    def knows(self, tensor: torch.Tensor) -> bool:
        """Whether a graph can name the tensor: it was recorded, or has data of its own."""
        return self.is_recorded(tensor) or not self.has_no_data(tensor)

    def without_data(self, item: Any) -> Any:
        """A constant as its node has it, so that its views are seen to be in its memory; anything else as it is."""
        if isinstance(item, torch.Tensor) and not item.is_meta and id(item) in self._known:
            node, index = self._known[id(item)]
            return item if index else node.meta["val"]
        return item

    def has_no_data(self, tensor: torch.Tensor) -> bool:
        """The truth about a tensor, which the code of the network is not told."""
        with self.paused():
            return tensor.is_meta

    def constant(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The value of a recorded tensor if shapes alone decide it."""
        return constant_value(self.tensor_node(tensor), self.data, self.constants)

    def _made_earlier(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The value of a tensor that the code has cached since an earlier recording, if shapes alone decide it."""
        for writer in self.earlier:
            if id(tensor) in writer._known:
                return writer.constant(tensor)
        return None

    def _is_own(self, device: torch.device) -> bool:
        """The network's own device, whatever that is when it runs."""
        return device.type == self.device.type and device.index in (None, self.device.index)

    # -- what cannot be written --------------------------------------------------------------------------------------

    def refused(self, found: str, why: str) -> TraceError:
        """An error about the line that is running."""
        return TraceError(self.where(), found=found, why=why, fix=WAYS_OUT)

    def unselected(self, tensor: torch.Tensor) -> TraceError:
        """An error about the use of ``x[mask]``."""
        source, _, where = self.selections[id(tensor)]
        return TraceError(
            where,
            found=f"elements of a tensor of shape {tuple(source.shape)} are chosen by a mask",
            why="how many there are depends on the input's values; a graph holds for every input",
            fix=f"use torch.where over the whole tensor (y[mask] = x[mask] is known); or {WAYS_OUT}",
        )

    def _unseen(self, tensor: torch.Tensor) -> TraceError:
        return TraceError(
            self.where(),
            found=f"a tensor of shape {tuple(tensor.shape)} that no recorded operator made",
            why="scripted functions, torch.func transforms and compiled extensions run out of sight of the recording",
            fix="call the Python function itself (for torch.jit.script: PYTORCH_JIT=0), or keep the module with that line whole: "
            "leaves=[ItsType]",
        )


def constant_name(owner: str, taken: Collection[str]) -> str:
    """A new name for a constant of the code of the module called `owner`: ``"layer1.0._constant_0"``."""
    names = (f"{owner}.{CONSTANT}{number}".lstrip(".") for number in itertools.count())
    return next(name for name in names if name not in taken)
