"""Running a network on tensors without data while every torch call is written down as a node of an fx graph."""

from __future__ import annotations

import functools
import operator as python_operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors

from packify.capture.binding import bind, inplace_by_name
from packify.capture.constants import known_outcome
from packify.capture.decompositions import DECOMPOSITIONS, set_part, set_where, write_to, write_without_gradient
from packify.capture.opaque import Functional
from packify.capture.operators import DEVICE_GETTERS, PASSIVE, PASSIVE_GETTERS, READS_DATA, Operator, key_of, operator_of
from packify.capture.symbolic import plain, symbolic_number
from packify.capture.values import call_on_meta, filled, on_meta, random, recurrent_result, without_expressions
from packify.capture.writer import GraphWriter
from packify.core import nested

_FACTORIES = frozenset(_device_constructors())
# In place they change what shape a tensor has, and none of its numbers.
_NEW_SHAPES = frozenset("squeeze unsqueeze transpose t".split())
_TENSOR_CLASSES = frozenset(("Tensor", "TensorBase", "_TensorBase"))


class Recorder(TorchFunctionMode):
    """Records one run: what torch is called with becomes nodes of the writer's graph."""

    def __init__(self, writer: GraphWriter) -> None:
        super().__init__()
        self.writer = writer
        self._grad = True
        self._given: set[int] | None = None

    @property
    def active(self) -> bool:
        """What runs is recorded."""
        return self.writer.active

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What runs inside is not recorded."""
        with self.writer.paused():
            yield

    @contextmanager
    def outside(self) -> Iterator[None]:
        """The gradient mode of the code that called: around a custom function torch switches it off without a word."""
        grad = self._grad
        try:
            with torch.set_grad_enabled(grad):
                yield
        finally:
            self._grad = grad

    # -- what the run calls ------------------------------------------------------------------------------------------

    def placeholder(self, name: str, tensor: torch.Tensor) -> None:
        """Record an input."""
        writer = self.writer
        writer.know(tensor, writer.stamp(writer.graph.placeholder(name), tensor, "placeholder"))

    def output(self, leaves: list[Any]) -> None:
        """Record what the network returns, flat."""
        writer = self.writer
        with writer.writing():
            writer.stamp(writer.graph.output(writer.held_values(tuple(leaves))), tuple(map(plain, leaves)), "output")

    def length(self, tensor: torch.Tensor) -> Any:
        """``len(tensor)``, which Python itself would make an ordinary number."""
        return self._sizes("size", tensor, 0) if self.writer.is_recorded(tensor) and tensor.dim() else tensor.__len__()

    def detached(self, made: torch.Tensor, data: torch.Tensor) -> None:
        """Record that `made` is `data` without its history."""
        if self.writer.is_recorded(data):
            self.writer.know(made, self.writer.method("detach", made, self.writer.tensor_node(data)))

    def opaque_call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Record a call as one node, whatever happens inside.

        Raises:
            TraceError: inside it reads tensors of the network that are not among its arguments.
        """
        given = self._given
        self._given = {id(leaf) for leaf in nested.leaves((args, kwargs))}
        try:
            if any(map(self.writer.is_recorded, nested.leaves((args, kwargs)))):
                return self.__torch_function__(function, (), args, kwargs)
            with self.paused():
                return function(*without_expressions(args), **without_expressions(kwargs))
        finally:
            self._given = given

    def aliased(self, value: Any, given: Any) -> Any:
        """`value` with tensors of its own for those that were given: a custom function that returns one makes a view of it unseen."""
        inputs = {id(leaf) for leaf in nested.leaves(given)}

        def alias(item: Any) -> Any:
            if not isinstance(item, torch.Tensor) or id(item) not in inputs:
                return item
            made = self._evaluate(torch.Tensor.detach, (item,), {})
            self.writer.know(made, self.writer.tensor_node(item))
            return made

        return nested.map_leaves(value, alias)

    def keep(self, replaced: list[tuple[str, torch.Tensor, torch.Tensor]]) -> None:
        """Record that parameters and buffers, by name, are what the code has put in their place from now on.

        What was read of them during the call is their value before.
        """
        writer = self.writer
        with writer.graph.inserting_before(next(iter(writer.graph.find_nodes(op="output")))):
            values = [writer.method("detach", new, writer.tensor_node(new)) for _, _, new in replaced]
            for (name, old, _), value in zip(replaced, values, strict=True):
                held = writer.attribute(writer.names[id(old)])
                if held.users:
                    with writer.graph.inserting_after(held):
                        read = writer.method("clone", held.meta["val"], held)
                    read.meta["stack"] = held.meta["stack"]
                    held.replace_all_uses_with(read, functools.partial(python_operator.is_not, read))
                with writer.within(name.rpartition(".")[0]):
                    target = writer.method("detach", held.meta["val"], held) if isinstance(old, nn.Parameter) else held
                    writer.method("copy_", held.meta["val"], target, value).meta.update(op="copy", inplace=True)

    def leaf(self, module: nn.Module, path: str, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Record a call of a module that is kept whole, and return what it returns."""
        writer = self.writer
        if not writer.active:
            return forward(*args, **kwargs)
        value = self._leaf_value(module, forward, args, kwargs)
        args, kwargs, signature = bind(forward, args, kwargs)
        node = writer.graph.call_module(path, writer.held_values(args), writer.held_values(kwargs))
        node.meta["signature"] = signature
        return writer.know_result(writer.stamp(node, value, type(module).__name__), value)

    def _leaf_value(self, module: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if isinstance(module, nn.RNNBase):
            return self._evaluate(functools.partial(recurrent_result, module), args[:1], {})
        if isinstance(module, nn.modules.batchnorm._NormBase):
            return self._evaluate(torch.empty_like, args[:1], {})
        try:
            return self._evaluate(forward, args, kwargs)
        except RuntimeError:  # its code needs values: any will do for the shape of the result
            with self.paused():
                return on_meta(forward.__func__(filled(module), *random(args), **random(kwargs)))  # type: ignore[attr-defined]

    # -- what torch calls --------------------------------------------------------------------------------------------

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
        known = any(map(self.writer.is_recorded, nested.leaves((args, kwargs))))
        if not known and key_of(self.writer.random, func, operator.name) is None:
            return func(*without_expressions(args), **without_expressions(kwargs))
        if operator.name in ("shape", "size", "numel", "nelement"):
            return self._sizes(operator.name, *args, **kwargs)
        if operator.name == "getitem" and _is_mask(args[1]):
            return self.writer.select(*args)
        other = self._in_other_words(func, operator, args, kwargs)
        if other is not None:
            with self:
                result = other()
            if result is not NotImplemented:
                return result
        return self._record(func, operator, args, kwargs)

    def _record(self, func: Callable[..., Any], operator: Operator, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One call as one node."""
        value = self._evaluate(func, args, kwargs, operator.name)
        node = self.writer.stamp(self._node(func, operator, args, kwargs), value, operator.name)
        node.meta["inplace"] = operator.inplace or node.kwargs.get("inplace") is True
        if value is None:
            return None
        result = self.writer.know_result(node, value)
        if not torch.is_grad_enabled() and not node.meta["inplace"] and operator.name != "detach":
            self._detach(result)
        return result

    def _answer(self, func: Callable[..., Any], operator: Operator, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a question about a tensor, or a switch, gives: nothing is recorded."""
        if operator.name == "_set_grad_enabled":
            self._grad = args[0]
        elif operator.name == "__len__" and id(args[0]) in self.writer.selections:
            raise self.writer.unselected(args[0])
        elif operator.name in DEVICE_GETTERS and isinstance(args[0], torch.Tensor) and args[0].is_meta:
            return device_answer(operator.name, self.writer.device)
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
                raise self.writer.refused(
                    f".{operator.name} of a tensor of shape {tuple(args[0].shape)} is set to something of another shape",
                    "a graph can write to a tensor, and not make it another one",
                )
            return functools.partial(set_part, args[0], operator.name, args[1])
        if operator.name == "setitem" and id(args[2]) in self.writer.selections:
            source, mask, _ = self.writer.selections[id(args[2])]
            if mask is args[1] and source.shape == args[0].shape:
                return functools.partial(set_where, args[0], mask, source)
        if operator.name in _NEW_SHAPES and self.writer.has_no_data(args[0]):
            return functools.partial(self._take_shape, func, getattr(torch.Tensor, operator.name), *args, **kwargs)
        if not self._grad and args[0].is_floating_point() and self.writer.tensor_node(args[0]).meta["op"] != "detach":
            return functools.partial(write_without_gradient, func, *args, **kwargs)
        return None

    def _take_shape(self, func: Callable[..., Any], view: Callable[..., Any], tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """``x.unsqueeze_(0)``: from here on the tensor is a view of what it was; what was recorded of it keeps its shape."""
        node = self.writer.tensor_node(view(tensor, *args, **kwargs))
        with self.paused():
            before = tensor.detach()
            for earlier in self.writer.graph.nodes:
                if earlier.meta["val"] is tensor:
                    earlier.meta["val"] = before
            with torch.no_grad():
                func(tensor, *args, **kwargs)
        self.writer.know(tensor, node, ())
        return tensor

    def _detach(self, value: Any) -> None:
        """What was computed under no_grad carries no gradient in the graph either."""
        for tensor in nested.leaves(value):
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
                self.writer.know(tensor, self.writer.method("detach", tensor, self.writer.tensor_node(tensor)))

    def _node(self, func: Callable[..., Any], operator: Operator, args: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.Node:
        args, kwargs, signature = bind(func, args, kwargs)
        args, kwargs = inplace_by_name(signature, args, kwargs)
        node = self._call_of(func, operator, *self.writer.held_values((args, kwargs)))
        node.meta["signature"] = signature
        return node

    def _call_of(self, func: Callable[..., Any], operator: Operator, new_args: tuple[Any, ...], new_kwargs: dict[str, Any]) -> fx.Node:
        graph = self.writer.graph
        if operator.getter:
            return graph.call_function(getattr, (new_args[0], operator.name))
        name = getattr(func, "__name__", "")
        if getattr(func, "__qualname__", "").split(".")[0] in _TENSOR_CLASSES:
            if operator.name in ("getitem", "setitem"):
                return graph.call_function(getattr(python_operator, operator.name), new_args, new_kwargs)
            return graph.call_method(name, new_args, new_kwargs)
        if "<locals>" in getattr(func, "__qualname__", "") and hasattr(F, name):
            func = Functional(name)
        return graph.call_function(func, new_args, new_kwargs)

    def _refuse_strangers(self, args: Any, kwargs: Any) -> None:
        for leaf in nested.leaves((args, kwargs)):
            if isinstance(leaf, torch.Tensor) and id(leaf) not in (self._given or ()) and self.writer.is_recorded(leaf):
                raise self.writer.refused(
                    f"a torch.autograd.Function reads a tensor of shape {tuple(leaf.shape)} that is not among its arguments",
                    "its call is recorded as one operator, and what it depends on has to be seen",
                )

    # -- values ------------------------------------------------------------------------------------------------------

    def _evaluate(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], name: str = "") -> Any:
        """What a call gives on meta tensors."""
        if func in _FACTORIES and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": torch.device("meta")}
        args, kwargs = nested.map_leaves((args, kwargs), self.writer.without_data)
        with self.paused(), torch.no_grad():
            return call_on_meta(name, func, args, kwargs)

    def _sizes(self, name: str, tensor: torch.Tensor, dim: int | None = None) -> Any:
        if id(tensor) in self.writer.selections:
            raise self.writer.unselected(tensor)
        shape = self._evaluate(torch.Tensor.size, (tensor,), {})

        def size(axis: int) -> Any:
            return symbolic_number(shape[axis], self.writer, "size", (tensor, axis))

        if name in ("numel", "nelement"):
            return symbolic_number(shape.numel(), self.writer, "numel", (tensor,))
        return torch.Size([size(axis) for axis in range(len(shape))]) if dim is None else size(int(dim))

    def _read(self, func: Callable[..., Any], operator: Operator, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Python asks for a tensor's data: a buffer has some, what is computed from the input has none yet."""
        writer = self.writer
        name = writer.names.get(id(args[0])) if args else None
        if name is not None and name in writer.data:
            return func(writer.data[name], *args[1:], **kwargs)
        if not any(map(writer.is_recorded, nested.leaves((args, kwargs)))):
            return func(*args, **kwargs)
        known = [writer.constant(item) if isinstance(item, torch.Tensor) else item for item in args]
        if not any(item is None for item in known):
            return func(*known, **kwargs)
        read = writer.tensor_node(args[0])
        answer = known_outcome(read) if operator.name in ("__bool__", "item", "is_nonzero") else None
        if answer is not None:
            writer.note(f"{operator.name} of a check is taken to be {answer}", "numbers are finite, and chances of 0 or 1 are certain")
            return answer
        if any(source.meta.get("random") for source in (read, *read.all_input_nodes)):
            raise writer.refused(
                f"the code decides by a number drawn at random ({operator.name})",
                "a graph calls the same layers every time: set the probability of leaving one out to 0, or multiply its output by 0 or 1",
            )
        raise writer.refused(
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
