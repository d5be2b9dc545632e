"""What a call gives on tensors without data depends on shapes and numbers alone: it is run once, and remembered.

A member calls the same operators on the same few shapes again and again, and so do the members of a sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch

from packify.core import nested


class Unknown(Exception):
    """A call that two runs cannot be told to have in common."""


class Layout:
    """Shape, stride and type of a tensor, and whether autograd follows it; compared by value, quickly."""

    __slots__ = ("_hash", "dtype", "requires_grad", "shape", "stride")

    def __init__(self, shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype, requires_grad: bool) -> None:
        self.shape, self.stride, self.dtype, self.requires_grad = shape, stride, dtype, requires_grad
        self._hash = hash((shape, stride, dtype, requires_grad))

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Layout:
        """A tensor's layout."""
        return cls(tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.requires_grad)

    def tensor(self) -> torch.Tensor:
        """A meta tensor of this layout, in a storage of its own; autograd does not follow it."""
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device="meta")

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Layout)
            and (self.shape, self.stride, self.dtype, self.requires_grad) == (other.shape, other.stride, other.dtype, other.requires_grad)
        )


_THEMSELVES = frozenset((int, str, type(None), torch.dtype, torch.device, torch.memory_format, torch.layout, type(Ellipsis)))
_BY_TYPE = frozenset((bool, float, complex))  # True, 1 and 1.0 are equal, and another call each


def call_key(value: Any, layout_of: Callable[[Any], Layout | None]) -> Hashable:
    """Nested arguments as a dictionary's key; `layout_of` gives that of a tensor, and None for what is none.

    Raises:
        Unknown: something in them cannot be compared.
    """
    kind = type(value)
    if kind in _THEMSELVES:
        return value  # type: ignore[no-any-return]
    if kind in _BY_TYPE:
        return kind, value
    layout = layout_of(value)
    if layout is not None:
        return layout
    if isinstance(value, (tuple, list)):
        return kind, *[call_key(item, layout_of) for item in value]
    if isinstance(value, dict):
        return kind, *[(name, call_key(item, layout_of)) for name, item in value.items()]
    if isinstance(value, slice):
        return kind, *[call_key(item, layout_of) for item in (value.start, value.stop, value.step)]
    raise Unknown


class RememberedCalls:
    """Calls on meta tensors by the operator and by what they are given; every answer is made of fresh tensors."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Any] = {}

    def __call__(self, name: Hashable, run: Callable[[], Any], args: Any, kwargs: Any) -> Any:
        """``run()``, or what it gave for the same arguments."""
        try:
            key = name, call_key(args, _layout_of), call_key(kwargs, _layout_of)
        except Unknown:
            return run()
        known = self._known.get(key, self)
        if known is self:
            value = run()
            self._known[key] = nested.map_leaves(value, lambda item: Layout.of(item) if isinstance(item, torch.Tensor) else item)
            return value
        if type(known) is Layout:
            return known.tensor()
        return nested.map_leaves(known, lambda item: item.tensor() if isinstance(item, Layout) else item)


def _layout_of(value: Any) -> Layout | None:
    return Layout.of(value) if isinstance(value, torch.Tensor) else None
