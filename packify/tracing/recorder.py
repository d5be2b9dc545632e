"""Running a network on tensors without data while every torch call is written down as a node of an fx graph."""

from __future__ import annotations

import enum
import functools
import operator as python_operator
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors

from packify.errors import TraceError
from packify.report import Note
from packify.tracing.composites import DECOMPOSITIONS, set_part, set_where, write_to, write_without_gradient
from packify.tracing.constants import constant_value
from packify.tracing.names import DEVICE_GETTERS, PASSIVE, PASSIVE_GETTERS, RANDOM, READS_DATA, Operator, operator_of
from packify.tracing.sizes import Traced, plain, traced_number
from packify.tracing.spelling import by_position
from packify.tracing.values import call_on_meta, filled, leaves, mapped, on_meta, random, recurrent_result, without_expressions

_FACTORIES = frozenset(_device_constructors())
_TENSOR_CLASSES = frozenset(("Tensor", "TensorBase", "_TensorBase"))
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


@dataclass(frozen=True)
class Functional:
    """A function of torch.nn.functional that is a closure there, by its name, so that a graph with it can be pickled."""

    name: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(F, self.name)(*args, **kwargs)

    @property
    def __name__(self) -> str:
        return self.name


class Recorder(TorchFunctionMode):
    """Records one run. Tensors are known by identity; sizes are `Traced` numbers.

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
        self.constants: dict[str, torch.Tensor] = {}
        self.scope: list[str] = [""]
        self._tensors, self._data, self._dtype, self._device = tensors, data, dtype, device
        self._names = {id(tensor): name for name, tensor in reversed(tensors.items())}
        self._known: dict[int, tuple[fx.Node, tuple[int, ...]]] = {}
        self._held = held
        self.earlier: list[Recorder] = []
        self.notes: list[Note] = []
        self._grad = True
        self._given: set[int] | None = None
        self._selections: dict[int, tuple[torch.Tensor, torch.Tensor, str]] = {}
        self._attributes: dict[str, fx.Node] = {}
        self._alive: list[Any] = []

    # -- what the run calls ------------------------------------------------------------------------------------------

    def placeholder(self, name: str, tensor: torch.Tensor) -> None:
        """Record an input."""
        node = self._stamp(self.graph.placeholder(name), tensor, "placeholder")
        self._know(tensor, node, ())

    def output(self, leaves: list[Any]) -> None:
        """Record what the network returns, flat."""
        self._stamp(self.graph.output(tuple(self._argument(leaf) for leaf in leaves)), tuple(map(plain, leaves)), "output")

    def note(self, what: str, why: str, node: str = "") -> None:
        """Something about the line that is running, or about `node`, that a user should know."""
        self.notes.append(Note(node or self.scope[-1] or "forward", "" if node else _source(), what, why))

    def knows(self, tensor: torch.Tensor) -> bool:
        """Whether a graph can name the tensor: it was recorded, or has data of its own."""
        return self._is_recorded(tensor) or not self._has_no_data(tensor)

    def length(self, tensor: torch.Tensor) -> Any:
        """``len(tensor)``, which Python itself would make an ordinary number."""
        return self._sizes("size", tensor, 0) if self._is_recorded(tensor) and tensor.dim() else tensor.__len__()

    def detached(self, made: torch.Tensor, data: torch.Tensor) -> None:
        """Record that `made` is `data` without its history."""
        if self._is_recorded(data):
            self._know(made, self._stamp(self.graph.call_method("detach", (self._tensor_node(data),)), made, "detach"), ())

    def whole(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Record a call as one node, whatever happens inside.

        Raises:
            TraceError: inside it reads tensors of the network that are not among its arguments.
        """
        given = self._given
        self._given = {id(leaf) for leaf in leaves((args, kwargs))}
        try:
            if any(map(self._is_recorded, leaves((args, kwargs)))):
                return self.__torch_function__(function, (), args, kwargs)
            self.active = False
            return function(*without_expressions(args), **without_expressions(kwargs))
        finally:
            self._given, self.active = given, True

    @contextmanager
    def outside(self) -> Iterator[None]:
        """The gradient mode of the code that called: around a custom function torch switches it off without a word."""
        grad = self._grad
        try:
            with torch.set_grad_enabled(grad):
                yield
        finally:
            self._grad = grad

    def aliased(self, value: Any, given: Any) -> Any:
        """`value` with tensors of its own for those that were given: a custom function that returns one makes a view of it unseen."""
        inputs = {id(leaf) for leaf in leaves(given)}

        def alias(item: Any) -> Any:
            if not isinstance(item, torch.Tensor) or id(item) not in inputs:
                return item
            made = self._evaluate(torch.Tensor.detach, (item,), {})
            self._know(made, self._tensor_node(item), ())
            return made

        return mapped(value, alias)

    def keep(self, replaced: list[tuple[str, torch.Tensor, torch.Tensor]]) -> None:
        """Record that parameters and buffers, by name, are what the code has put in their place from now on.

        What was read of them during the call is their value before.
        """
        with self.graph.inserting_before(next(iter(self.graph.find_nodes(op="output")))):
            values = [self._call("detach", new, self._tensor_node(new)) for _, _, new in replaced]
            for (name, old, _), value in zip(replaced, values, strict=True):
                held = self._attribute(self._names[id(old)])
                if held.users:
                    with self.graph.inserting_after(held):
                        read = self._call("clone", held.meta["val"], held)
                    held.replace_all_uses_with(read, functools.partial(python_operator.is_not, read))
                self.scope.append(name.rpartition(".")[0])
                target = self._call("detach", held.meta["val"], held) if isinstance(old, nn.Parameter) else held
                self._call("copy_", held.meta["val"], target, value).meta.update(op="copy", inplace=True)
                self.scope.pop()

    def _call(self, method: str, value: Any, *args: fx.Node) -> fx.Node:
        return self._stamp(self.graph.call_method(method, args), value, method)

    def leaf(self, module: nn.Module, path: str, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Record a call of a module that is kept whole, and return what it returns."""
        if not self.active:
            return forward(*args, **kwargs)
        value = self._leaf_value(module, forward, args, kwargs)
        node = self.graph.call_module(path, *self._arguments(args, kwargs))
        return self._result(self._stamp(node, value, type(module).__name__), value)

    def _leaf_value(self, module: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if isinstance(module, nn.RNNBase):
            return self._evaluate(functools.partial(recurrent_result, module), args[:1], {})
        if isinstance(module, nn.modules.batchnorm._NormBase):
            return self._evaluate(torch.empty_like, args[:1], {})
        try:
            return self._evaluate(forward, args, kwargs)
        except (RuntimeError, NotImplementedError):  # its code needs values: any will do for the shape of the result
            self.active = False
            try:
                return on_meta(forward.__func__(filled(module), *random(args), **random(kwargs)))  # type: ignore[attr-defined]
            finally:
                self.active = True

    def emit(self, target: Callable[..., Any] | str, args: tuple[Any, ...], value: Any) -> fx.Node:
        """A node for a number; `target` is a function, or the name of a tensor method."""
        create = self.graph.call_method if isinstance(target, str) else self.graph.call_function
        node = create(target, *self._arguments(args, {}))  # type: ignore[arg-type]
        name = target if isinstance(target, str) else operator_of(target).name
        return self._stamp(node, value, name)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not self.active:
            if self._given is not None:
                self._refuse_strangers(args, kwargs)
            return func(*args, **kwargs)
        operator = operator_of(func)
        if operator.name in (PASSIVE_GETTERS if operator.getter else PASSIVE):
            return self._answer(func, operator, args, kwargs)
        if operator.name in READS_DATA:
            return self._read(func, operator, args, kwargs)
        if not any(map(self._is_recorded, leaves((args, kwargs)))) and operator.name not in RANDOM:
            return func(*without_expressions(args), **without_expressions(kwargs))
        if operator.name in ("shape", "size", "numel", "nelement"):
            return self._sizes(operator.name, *args, **kwargs)
        if operator.name == "getitem" and _is_mask(args[1]):
            return self._select(*args)
        other = self._in_other_words(func, operator, args, kwargs)
        if other is not None:
            with self:
                result = other()
            if result is not NotImplemented:
                return result
        value = self._evaluate(func, args, kwargs, operator.name)
        node = self._node(func, operator, args, kwargs)
        self._stamp(node, value, operator.name)
        node.meta["inplace"] = operator.inplace or kwargs.get("inplace") is True
        if value is None:
            return None
        result = self._result(node, value)
        if not torch.is_grad_enabled() and not node.meta["inplace"] and operator.name != "detach":
            self._detach(result)
        return result

    def _answer(self, func: Callable[..., Any], operator: Operator, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a question about a tensor, or a switch, gives: nothing is recorded."""
        if operator.name == "_set_grad_enabled":
            self._grad = args[0]
        elif operator.name == "__len__" and id(args[0]) in self._selections:
            raise self._unselected(args[0])
        elif operator.name in DEVICE_GETTERS and isinstance(args[0], torch.Tensor) and args[0].is_meta:
            return device_answer(operator.name, self._device)
        return func(*args, **kwargs)

    def _in_other_words(
        self, func: Callable[..., Any], operator: Operator, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Callable[[], Any] | None:
        """Calls of other operators that do the same, for what would not be right in a graph, or has no rule."""
        if kwargs.get("out") is not None:
            out, others = kwargs["out"], {key: value for key, value in kwargs.items() if key != "out"}
            return functools.partial(write_to, out, func, *args, **others)
        if operator.name in DECOMPOSITIONS:
            return functools.partial(DECOMPOSITIONS[operator.name], *args, **kwargs)
        if not operator.inplace:
            return None
        if operator.getter:
            if args[0].shape != getattr(args[1], "shape", None):
                raise self._refused(
                    f".{operator.name} of a tensor of shape {tuple(args[0].shape)} is set to something of another shape",
                    "a graph can write to a tensor, and not make it another one",
                )
            return functools.partial(set_part, args[0], operator.name, args[1])
        if operator.name == "setitem" and id(args[2]) in self._selections:
            source, mask, _ = self._selections[id(args[2])]
            if mask is args[1] and source.shape == args[0].shape:
                return functools.partial(set_where, args[0], mask, source)
        if not self._grad and isinstance(args[0], nn.Parameter) and id(args[0]) in self._names:
            return functools.partial(write_without_gradient, func, *args, **kwargs)
        return None

    def _select(self, source: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """``x[mask]``: how long that is depends on data, so all it can do is to be written to the same place of another tensor."""
        stand_in = source.new_empty((0, *source.shape[mask.dim() :]), device="meta")
        self._selections[id(stand_in)] = (source, mask, self._where())
        self._alive.append(stand_in)
        return stand_in

    def _detach(self, value: Any) -> None:
        """What was computed under no_grad carries no gradient in the graph either."""
        for tensor in leaves(value):
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
                node = self.graph.call_method("detach", (self._tensor_node(tensor),))
                self._know(tensor, self._stamp(node, tensor, "detach"), ())

    # -- nodes -------------------------------------------------------------------------------------------------------

    def _node(self, func: Callable[..., Any], operator: Operator, args: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.Node:
        new_args, new_kwargs = self._arguments(*by_position(func, args, kwargs))
        if operator.getter:
            return self.graph.call_function(getattr, (new_args[0], operator.name))
        name = getattr(func, "__name__", "")
        if getattr(func, "__qualname__", "").split(".")[0] in _TENSOR_CLASSES:
            if operator.name in ("getitem", "setitem"):
                return self.graph.call_function(getattr(python_operator, operator.name), new_args, new_kwargs)
            return self.graph.call_method(name, new_args, new_kwargs)
        if "<locals>" in getattr(func, "__qualname__", "") and hasattr(F, name):
            func = Functional(name)
        return self.graph.call_function(func, new_args, new_kwargs)

    def _stamp(self, node: fx.Node, value: Any, name: str) -> fx.Node:
        node.meta.update(val=value, op=name, path=self.scope[-1], source=_source(), inplace=False)
        return node

    def _arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return tuple(map(self._argument, args)), {key: self._argument(value) for key, value in kwargs.items()}

    def _argument(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self._tensor_node(value)
        if isinstance(value, Traced):
            return value.node() if value.recorder is self else plain(value)
        if isinstance(value, torch.Size):
            return tuple(map(self._argument, value))
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*map(self._argument, value))
        if isinstance(value, (tuple, list)):
            return type(value)(map(self._argument, value))
        if isinstance(value, dict):
            return {key: self._argument(item) for key, item in value.items()}
        if isinstance(value, slice):
            return slice(*map(self._argument, (value.start, value.stop, value.step)))
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
        return f"{_source()}, in {self.scope[-1] or 'forward'}"

    def _refuse_strangers(self, args: Any, kwargs: Any) -> None:
        for leaf in leaves((args, kwargs)):
            if isinstance(leaf, torch.Tensor) and id(leaf) not in (self._given or ()) and self._is_recorded(leaf):
                raise self._refused(
                    f"a torch.autograd.Function reads a tensor of shape {tuple(leaf.shape)} that is not among its arguments",
                    "its call is recorded as one operator, and what it depends on has to be seen",
                )

    def _know(self, tensor: torch.Tensor, node: fx.Node, index: tuple[int, ...]) -> None:
        self._known[id(tensor)] = (node, index)
        self._alive.append(tensor)

    # -- values ------------------------------------------------------------------------------------------------------

    def _is_recorded(self, value: Any) -> bool:
        if isinstance(value, torch.Tensor):
            return id(value) in self._known or id(value) in self._names or id(value) in self._selections
        if isinstance(value, torch.device):
            return self._is_own(value)
        return isinstance(value, Traced) and value.recorder is self

    def _is_own(self, device: torch.device) -> bool:
        """The network's own device, whatever that is when it runs."""
        return device.type == self._device.type and device.index in (None, self._device.index)

    def _evaluate(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], name: str = "") -> Any:
        """What a call gives on meta tensors."""
        if func in _FACTORIES and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": torch.device("meta")}
        was_active, self.active = self.active, False
        try:
            with torch.no_grad():
                return call_on_meta(name, func, args, kwargs)
        finally:
            self.active = was_active

    def _result(self, node: fx.Node, value: Any) -> Any:
        def learn(item: Any, index: tuple[int, ...]) -> Any:
            if isinstance(item, torch.Tensor):
                self._know(item, node, index)
            elif isinstance(item, (tuple, list)):
                for position, element in enumerate(item):
                    learn(element, (*index, position))
            return item

        return learn(value, ())

    def _sizes(self, name: str, tensor: torch.Tensor, dim: int | None = None) -> Any:
        if id(tensor) in self._selections:
            raise self._unselected(tensor)
        shape = self._evaluate(torch.Tensor.size, (tensor,), {})

        def size(axis: int) -> Any:
            return traced_number(shape[axis], self, "size", (tensor, axis))

        if name in ("numel", "nelement"):
            return traced_number(shape.numel(), self, "numel", (tensor,))
        return torch.Size([size(axis) for axis in range(len(shape))]) if dim is None else size(int(dim))

    def _read(self, func: Callable[..., Any], operator: Operator, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Python asks for a tensor's data: a buffer has some, what is computed from the input has none yet."""
        name = self._names.get(id(args[0])) if args else None
        if name is not None and name in self._data:
            return func(self._data[name], *args[1:], **kwargs)
        if not any(map(self._is_recorded, leaves((args, kwargs)))):
            return func(*args, **kwargs)
        known = [
            constant_value(self._tensor_node(item), self._data, self.constants) if isinstance(item, torch.Tensor) else item for item in args
        ]
        if not any(item is None for item in known):
            return func(*known, **kwargs)
        raise self._refused(
            f"the code reads the value of a tensor ({operator.name}) of shape {tuple(args[0].shape)}",
            "a graph holds for every input, so Python may not branch on, loop over or convert what is computed from the input",
        )


def _is_mask(index: Any) -> bool:
    return isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8)


def device_answer(question: str, device: torch.device) -> Any:
    """What a tensor on `device` says when it is asked for its ``device``, ``is_cuda``, ``get_device()``."""
    if question == "device":
        return device
    if question == "get_device":
        return -1 if device.type == "cpu" else device.index or 0
    return question == f"is_{device.type}"


def _source() -> str:
    """``file.py:123`` of the line in the user's code that is running."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        filename = frame.f_code.co_filename
        if not filename.startswith(_SKIPPED_FRAMES):
            return f"{filename}:{frame.f_lineno}"
        frame = frame.f_back
    return "unknown source"
