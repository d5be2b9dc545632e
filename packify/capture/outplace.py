"""Operators that write to an argument, and calls that compute the same out of place."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from packify.capture.operators import RANDOM, operator_of
from packify.nn.members import Method
from packify.nn.writes import OutOfPlace, copied


@dataclass(frozen=True)
class Call:
    """A call as a node holds it."""

    op: str
    target: Any
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, args: tuple[Any, ...]) -> Call:
        """A Python operator, or a function of torch."""
        return cls("call_function", getattr(operator, name, None) or getattr(torch, name), args)

    @property
    def name(self) -> str:
        """The operator's name, as rules are found by."""
        return operator_of(Method(self.target) if self.op == "call_method" else self.target).name


@dataclass(frozen=True)
class OutOfPlaceForm:
    """How a call in place is made out of place, on whatever arguments it has in a graph.

    Attributes:
        op, target: what is called instead.
        count: how many positional arguments that takes; None for all.
        kwargs: keyword arguments that it gets.
    """

    op: str
    target: Any
    count: int | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
        """The call on these arguments, which are those of the call in place."""
        return Call(self.op, self.target, tuple(args[: self.count]), {} if self.count else {**kwargs, **self.kwargs})


def in_place_position(node: fx.Node, root: nn.Module) -> int | None:
    """Which of its arguments a recorded call writes to; None where it writes to none that a graph knows."""
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        return 0 if isinstance(module, nn.modules.dropout._DropoutNd) and module.inplace else None
    if not node.meta.get("inplace"):
        return None
    position = 0
    if isinstance(node.target, torch._ops.OpOverload):
        written = [
            index
            for index, argument in enumerate(node.target._schema.arguments)
            if argument.alias_info is not None and argument.alias_info.is_write
        ]
        position = written[0] if written else 0
    return position if len(node.args) > position and isinstance(node.args[position], fx.Node) else None


def forms_of(call: Call, op: str, position: int) -> Iterator[OutOfPlaceForm]:
    """Ways to compute the value that an operator in place gives, the cheapest first; the last always does.

    Args:
        call: of a recorded node, whose arguments are nodes.
        op: the operator's name.
        position: of the argument that it writes to.
    """
    if call.op == "call_module":  # its copy in the recording is switched to work out of place
        yield OutOfPlaceForm(call.op, call.target)
        return
    given = call.args[1] if len(call.args) > 1 else None
    tensor = isinstance(given, fx.Node) and isinstance(given.meta["val"], torch.Tensor)
    if tensor and op in ("copy", "fill"):
        yield OutOfPlaceForm("call_function", copied, 2)
    elif op == "fill" and given is not None:
        yield OutOfPlaceForm("call_function", torch.fill, 2)
    elif op == "zero":
        yield OutOfPlaceForm("call_function", torch.zeros_like, 1)
    elif call.kwargs.get("inplace") is True:
        yield OutOfPlaceForm(call.op, call.target, kwargs={"inplace": False})
    elif op not in RANDOM:  # x.bernoulli_() is not x.bernoulli(), nor torch.normal(x) what normal_(x) is
        twin = _twin(call)
        if twin is not None:
            yield twin
    function: Callable[..., Any] = Method(str(call.target)) if call.op == "call_method" else call.target
    yield OutOfPlaceForm("call_function", OutOfPlace(function, position))


def _twin(call: Call) -> OutOfPlaceForm | None:
    """The same operator without an underscore."""
    if call.op == "call_method":
        method = str(call.target)
        without = f"__{method[3:]}" if method.startswith("__i") else method.removesuffix("_")
        return OutOfPlaceForm("call_method", without) if without != method and hasattr(torch.Tensor, without) else None
    if isinstance(call.target, torch._ops.OpOverload):
        packet = getattr(torch.ops.aten, call.target._opname.removesuffix("_"), None) if call.target.namespace == "aten" else None
        overload = getattr(packet, call.target._overloadname, None)
        return None if overload is None else OutOfPlaceForm("call_function", overload)
    name = getattr(call.target, "__name__", "")
    homes = (home for home in (F, torch) if name.endswith("_") and getattr(home, name, None) is call.target)
    twins = (twin for home in homes if callable(twin := getattr(home, name[:-1], None)))
    return next((OutOfPlaceForm("call_function", twin) for twin in twins), None)
