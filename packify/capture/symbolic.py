"""Numbers that remember where they came from: the sizes of recorded tensors, and what Python computes from them.

A size is a real `int`, so every Python and C++ caller accepts it; used as an argument of a recorded operator it becomes
a node, so that the graph stays valid for other batch sizes and resolutions. Comparing two sizes gives an ordinary bool:
control flow on shapes is decided by the example input.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, Protocol

from torch.fx import Node


class Recording(Protocol):
    """What a number needs from the recorder it belongs to."""

    active: bool

    def emit(self, target: Callable[..., Any] | str, args: tuple[Any, ...], value: Any) -> Node: ...


class SymbolicNumber:
    """Mixin: the expression a number stands for. It becomes a node when an operator uses it, and never otherwise."""

    recorder: Recording
    target: Callable[..., Any] | str
    operands: tuple[Any, ...]
    _node: Node | None
    leading: bool = False

    def node(self) -> Node:
        """The node that computes this number, made on first use."""
        if self._node is None:
            self._node = self.recorder.emit(self.target, self.operands, plain(self))
        return self._node


class SymbolicInt(SymbolicNumber, int):
    """An int that knows its expression.

    A batch size has no hash while a network is recorded: what a cache keyed by shapes returned for it would be another recording's.
    """

    def __hash__(self) -> int:
        if self.leading and self.recorder.active:
            raise TypeError("unhashable: the size of a leading axis, which differs from call to call")
        return int.__hash__(self)


class SymbolicFloat(SymbolicNumber, float):
    """A float that knows its expression."""


def symbolic_number(value: int | float, recorder: Recording, target: Callable[..., Any] | str, operands: tuple[Any, ...]) -> Any:
    """`value` as a number that stands for ``target(*operands)``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    number: Any = SymbolicInt(value) if isinstance(value, int) else SymbolicFloat(value)
    number.recorder, number.target, number.operands, number._node = recorder, target, operands, None
    number.leading = (target == "size" and operands[1] == 0) or any(
        isinstance(operand, SymbolicNumber) and operand.leading for operand in operands
    )
    return number


def plain(value: Any) -> Any:
    """A traced number as an ordinary one; anything else as it is."""
    if isinstance(value, SymbolicInt):
        return int.__int__(value)
    if isinstance(value, SymbolicFloat):
        return float.__float__(value)
    return value


def _binary(name: str, function: Callable[..., Any], *, reverse: bool) -> Callable[[Any, Any], Any]:
    def method(self: Any, other: Any) -> Any:
        if not isinstance(other, (int, float)):
            return NotImplemented
        operands = (other, self) if reverse else (self, other)
        value = function(*map(plain, operands))
        return symbolic_number(value, self.recorder, function, operands) if self.recorder.active else value

    method.__name__ = name
    return method


def _unary(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Any, *args: Any) -> Any:
        value = function(plain(self), *args)
        return symbolic_number(value, self.recorder, function, (self, *args)) if self.recorder.active else value

    method.__name__ = name
    return method


def followed(function: Callable[..., Any], original: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """`function` as one whose result knows its expression when a traced number is given; whatever else is given goes to `original`."""

    def method(*args: Any, **kwargs: Any) -> Any:
        traced = next((item for item in args if isinstance(item, SymbolicNumber)), None)
        if traced is None or not traced.recorder.active:
            return (original or function)(*args, **kwargs)
        return symbolic_number(function(*map(plain, args)), traced.recorder, function, args)

    return method


_BINARY: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "floordiv": operator.floordiv,
    "truediv": operator.truediv,
    "mod": operator.mod,
    "pow": operator.pow,
}
_UNARY: dict[str, Callable[..., Any]] = {"__neg__": operator.neg, "__ceil__": math.ceil, "__floor__": math.floor, "__round__": round}

for _class in (SymbolicInt, SymbolicFloat):
    for _name, _function in _BINARY.items():
        setattr(_class, f"__{_name}__", _binary(f"__{_name}__", _function, reverse=False))
        setattr(_class, f"__r{_name}__", _binary(f"__r{_name}__", _function, reverse=True))
    for _name, _function in _UNARY.items():
        setattr(_class, _name, _unary(_name, _function))
