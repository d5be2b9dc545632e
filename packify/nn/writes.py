"""Writes as values, for graphs: each function returns the tensor that code has after it wrote to a part of one, or to its own tensors.

``x[:, 0] = y`` is ``x = setitem(x, (slice(None), 0), y)``. Only `store`, the last thing that a graph does to a buffer, changes anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from packify.nn.members import split_members


def setitem(x: Tensor, index: Any, value: Any, reuse: bool = False) -> Tensor:
    """`x` with ``x[index] = value``; with `reuse` in the memory of `x`, which nobody reads any more."""
    made = x if reuse else x.clone()
    made[index] = value
    return made


def setitem_members(x: Tensor, index: Any, value: Any, axis: int, members: int, reuse: bool = False) -> Tensor:
    """`setitem` of a packed tensor, for an index and a value of ``"m ..."``; the members stay on their axis."""
    made = x if reuse else x.clone()
    split_members(made, axis, members)[index] = value
    return made


def copied(x: Tensor, source: Tensor) -> Tensor:
    """`x` after ``x.copy_(source)``."""
    return x.new_empty(torch.broadcast_shapes(x.shape, source.shape)).copy_(source)


def with_data(x: Tensor, value: Tensor) -> Tensor:
    """The numbers of `value` with the history of `x`: what `x` is after ``x.data.copy_(value)``, also under ``torch.no_grad()``."""
    made = x.expand(value.shape).clone()
    made.detach().copy_(value)
    return made


@fx.node.has_side_effect
def store(target: Tensor, value: Tensor) -> None:
    """Write what a buffer or a parameter holds from now on."""
    with torch.no_grad():
        target.copy_(value)


@dataclass(frozen=True)
class OutOfPlace:
    """An operator that only exists in place, on a copy of the argument that it writes to."""

    function: Callable[..., Any]
    position: int = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        made: Tensor = args[self.position].clone()
        self.function(*args[: self.position], made, *args[self.position + 1 :], **kwargs)
        return made

    @property
    def __name__(self) -> str:
        return str(getattr(self.function, "__name__", type(self.function).__name__))


@dataclass(frozen=True)
class WriteThrough:
    """``write(base, value, *args)``: `base` after `value` is written to its view ``function(base, *args)``, such as its diagonal.

    Attributes:
        function: what makes the view.
        position: the place of `base` among the arguments of `function`.
        element: which of several views.
    """

    function: Callable[..., Any]
    position: int = 0
    element: int | None = None
    __name__ = "write_through"

    def __call__(self, base: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        made = base.clone()
        view = self.function(*args[: self.position], made, *args[self.position :], **kwargs)
        (view if self.element is None else view[self.element]).copy_(value)
        return made
