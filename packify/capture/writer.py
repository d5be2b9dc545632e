"""The fx graph of a recording while it is written: values by identity, arguments as code can hold them."""

from __future__ import annotations

import enum
import operator as python_operator
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import fx

from packify.capture.constants import constant_value
from packify.capture.operators import RANDOM, key_of, operator_of
from packify.capture.symbolic import SymbolicNumber, plain
from packify.capture.values import mapped
from packify.core.errors import TraceError
from packify.core.report import Note

_SKIPPED_FRAMES = (torch.__path__[0], str(Path(__file__).parent.parent))

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
    """One graph. Tensors are known by identity; sizes are `Traced` numbers.

    Args:
        tensors: the shadow's parameters and buffers by name; of several names of one tensor, the first is used.
        data: real tensors by name, for control flow on a buffer's value; empty for a reference on the meta device.
        held: ``id`` of the tensors that modules hold as plain attributes; they are constants.
        dtype: the network's own floating dtype, recorded as "the network's dtype" rather than as a constant.
        device: the network's own device, which is what code that asks is told, recorded as "the network's device" likewise.
    """

    def __init__(
        self,
        tensors: dict[str, torch.Tensor],
        data: dict[str, torch.Tensor],
        dtype: torch.dtype,
        held: set[int],
        device: torch.device = torch.device("cpu"),  # noqa: B008
    ) -> None:
        super().__init__()
        self.graph = fx.Graph()
        self.active = False
        self.random: Collection[Any] = RANDOM
        self.constants: dict[str, torch.Tensor] = {}
        self.scope: list[str] = [""]
        self._tensors, self._data, self._dtype, self._device = tensors, data, dtype, device
        self._names = {id(tensor): name for name, tensor in reversed(tensors.items())}
        self._known: dict[int, tuple[fx.Node, tuple[int, ...]]] = {}
        self._held = held
        self.earlier: list[GraphWriter] = []
        self.notes: list[Note] = []
        self._grad = True
        self._given: set[int] | None = None
        self._selections: dict[int, tuple[torch.Tensor, torch.Tensor, str]] = {}
        self._attributes: dict[str, fx.Node] = {}
        self._alive: list[Any] = []

    def note(self, what: str, why: str, node: str = "") -> None:
        """Something about the line that is running, or about `node`, that a user should know."""
        self.notes.append(Note(node or self.scope[-1] or "forward", "" if node else source_line(), what, why))

    def knows(self, tensor: torch.Tensor) -> bool:
        """Whether a graph can name the tensor: it was recorded, or has data of its own."""
        return self._is_recorded(tensor) or not self._has_no_data(tensor)

    def _stamp(self, node: fx.Node, value: Any, name: str) -> fx.Node:
        node.meta.update(val=value, op=name, path=self.scope[-1], source=source_line(), inplace=False)
        if key_of(self.random, node.target if node.op == "call_function" else None, name) is not None:
            node.meta["random"] = True
        return node

    def emit(self, target: Callable[..., Any] | str, args: tuple[Any, ...], value: Any) -> fx.Node:
        """A node for a number; `target` is a function, or the name of a tensor method."""
        create = self.graph.call_method if isinstance(target, str) else self.graph.call_function
        node = create(target, *self._arguments(args, {}))  # type: ignore[arg-type]
        name = target if isinstance(target, str) else operator_of(target).name
        return self._stamp(node, value, name)

    def _arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return self._argument(args), self._argument(kwargs)

    def _argument(self, value: Any) -> Any:
        """Nested arguments as a graph holds them."""
        return mapped(value, self._held_value)

    def _held_value(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self._tensor_node(value)
        if isinstance(value, SymbolicNumber):
            return value.node() if value.recorder is self else plain(value)
        if isinstance(value, torch.device) and self._is_own(value):
            return self._network("device", value)
        if isinstance(value, torch.dtype) and value == self._dtype:
            return self._network("dtype", value)
        return value if type(value) in _LITERALS or isinstance(value, enum.Enum) else self._literal(value)

    def _literal(self, value: Any) -> Any:
        """A value as the code of a graph can write it: arrays are constants."""
        kind = type(value)
        if kind.__module__ == "numpy" and kind.__name__ == "ndarray" and value.dtype.kind in "biufc":
            return self._tensor_node(torch.from_numpy(value.copy()))
        if kind.__module__ == "numpy" and hasattr(value, "item") and type(value.item()) in _LITERALS:
            return value.item()
        for literal in (int, float, str):
            if isinstance(value, literal):
                return literal(value)
        if value in _DTYPES:
            return _DTYPES[value]
        raise self._refused(
            f"an argument that is a {kind.__name__}: {value!r}",
            "the code of a graph holds numbers, text, dtypes, devices and tensors, and no other objects",
        )

    def _network(self, attribute: str, value: Any) -> fx.Node:
        """The device or dtype that the network has when it runs, read off one of its tensors."""
        known = self._attributes.get(attribute)
        if known is None:
            owner = next(iter(self._tensors), None)
            first = self._attribute(owner) if owner else next(iter(self.graph.find_nodes(op="placeholder")))
            known = self._attributes[attribute] = self.graph.call_function(getattr, (first, attribute))
            self._stamp(known, value, attribute)
        return known

    def _attribute(self, name: str) -> fx.Node:
        if name not in self._attributes:
            node = self._attributes[name] = self.graph.get_attr(name)
            self._stamp(node, self._tensors[name].detach().to("meta"), "get_attr")
        return self._attributes[name]

    def _tensor_node(self, tensor: torch.Tensor) -> fx.Node:
        if id(tensor) in self._known:
            node, index = self._known[id(tensor)]
            if index:
                value = node.meta["val"]
                for position in index:
                    value = value[position]
                    node = self.graph.call_function(python_operator.getitem, (node, position))
                    self._stamp(node, value, "getitem")
                self._known[id(tensor)] = (node, ())
            return node
        if id(tensor) in self._selections:
            raise self._unselected(tensor)
        name = self._names.get(id(tensor))
        if name is None:
            value = self._made_earlier(tensor) if self._has_no_data(tensor) and id(tensor) not in self._held else tensor
            if value is None:
                raise self._unseen(tensor)
            name = f"_constant_{len(self.constants)}"
            self.constants[name] = value
            self._tensors[name] = tensor
            self._know(tensor, self._attribute(name), ())
        return self._attribute(name)

    def _has_no_data(self, tensor: torch.Tensor) -> bool:
        """The truth about a tensor, which the code of the network is not told."""
        was_active, self.active = self.active, False
        try:
            return tensor.is_meta
        finally:
            self.active = was_active

    def _made_earlier(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The value of a tensor that the code has cached since an earlier recording, if shapes alone decide it."""
        for recorder in self.earlier:
            if id(tensor) in recorder._known:
                return constant_value(recorder._tensor_node(tensor), self._data, recorder.constants)
        return None

    def _unseen(self, tensor: torch.Tensor) -> TraceError:
        return TraceError(
            self._where(),
            found=f"a tensor of shape {tuple(tensor.shape)} that no recorded operator made",
            why="scripted functions, torch.func transforms and compiled extensions run out of sight of the recording",
            fix="call the Python function itself (for torch.jit.script: PYTORCH_JIT=0), or keep the module with that line whole: "
            "leaves=[ItsType]",
        )

    def _unselected(self, tensor: torch.Tensor) -> TraceError:
        source, _, where = self._selections[id(tensor)]
        return TraceError(
            where,
            found=f"elements of a tensor of shape {tuple(source.shape)} are chosen by a mask",
            why="how many there are depends on the input's values; a graph holds for every input",
            fix=f"use torch.where over the whole tensor (y[mask] = x[mask] is known); or {WAYS_OUT}",
        )

    def _refused(self, found: str, why: str) -> TraceError:
        return TraceError(self._where(), found=found, why=why, fix=WAYS_OUT)

    def _where(self) -> str:
        return f"{source_line()}, in {self.scope[-1] or 'forward'}"

    def _know(self, tensor: torch.Tensor, node: fx.Node, index: tuple[int, ...]) -> None:
        self._known[id(tensor)] = (node, index)
        self._alive.append(tensor)

    def _is_recorded(self, value: Any) -> bool:
        if isinstance(value, torch.Tensor):
            return id(value) in self._known or id(value) in self._names or id(value) in self._selections
        if isinstance(value, torch.device):
            return self._is_own(value)
        return isinstance(value, SymbolicNumber) and value.recorder is self

    def _is_own(self, device: torch.device) -> bool:
        """The network's own device, whatever that is when it runs."""
        return device.type == self._device.type and device.index in (None, self._device.index)

    def _call(self, method: str, value: Any, *args: fx.Node) -> fx.Node:
        return self._stamp(self.graph.call_method(method, args), value, method)


def source_line() -> str:
    """``file.py:123`` of the line in the user's code that is running."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        filename = frame.f_code.co_filename
        if not filename.startswith(_SKIPPED_FRAMES):
            return f"{filename}:{frame.f_lineno}"
        frame = frame.f_back
    return "unknown source"
