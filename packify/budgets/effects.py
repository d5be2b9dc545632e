"""What one call does to memory, without the tensors: what it gives, which storages that lies in, and what autograd keeps of it.

All of it depends on the operator, the numbers and the tensors' layouts alone. So a call is run once on meta tensors and remembered: a
network repeats its calls, and so do the members of a sweep.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from packify.capture.remembered import Layout, Unknown, call_key
from packify.core import nested


class Storage:
    """Memory that tensors share: views and in-place results have their source's."""

    __slots__ = ("nbytes",)

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes


class Block:
    """A tensor of a run: its layout, and the storage it lies in."""

    __slots__ = ("layout", "storage")

    def __init__(self, layout: Layout, storage: Storage) -> None:
        self.layout, self.storage = layout, storage

    @classmethod
    def of(cls, tensor: Tensor) -> Block:
        """A tensor's block, in a storage of its own."""
        return cls(Layout.of(tensor), Storage(int(tensor.untyped_storage().nbytes())))

    def nbytes(self, dtype: torch.dtype | None) -> int:
        """Bytes of the whole storage, with floating numbers taken to have a type."""
        return nbytes(self.storage, self.layout.dtype, dtype)


def nbytes(storage: Storage, own: torch.dtype, dtype: torch.dtype | None) -> int:
    """Bytes of a storage that holds numbers of the type `own`, if floating numbers have the type `dtype`."""
    if dtype is None or not own.is_floating_point:
        return storage.nbytes
    return storage.nbytes * dtype.itemsize // own.itemsize


@dataclass(frozen=True, slots=True)
class _Output:
    """A tensor that a call gives; `source` numbers the tensors it was given first, then the storages that it made."""

    layout: Layout
    source: int


@dataclass(frozen=True, slots=True)
class Effect:
    """What a call does.

    Attributes:
        value: what it gives, with an `_Output` for every tensor.
        made: bytes of the storages that it makes.
        kept: sources and types of what autograd keeps for the backward pass.
        mult_adds: of the call.
        changed: what its first argument is afterwards, if it writes to it.
    """

    value: Any
    made: tuple[int, ...]
    kept: tuple[tuple[int, torch.dtype], ...]
    mult_adds: int
    changed: _Output | None

    def on(self, given: list[Block]) -> Outcome:
        """The same, done to these blocks."""
        storages = [block.storage for block in given]
        storages += map(Storage, self.made)

        def block(item: Any) -> Any:
            return Block(item.layout, storages[item.source]) if type(item) is _Output else item

        value = block(self.value) if type(self.value) is _Output else _mapped(self.value, block)
        kept = [(storages[source], dtype) for source, dtype in self.kept] if self.kept else []
        return Outcome(value, kept, self.mult_adds, None if self.changed is None else block(self.changed))


@dataclass(slots=True)
class Outcome:
    """What a call did in one run: what it gives, what is kept of it by storage, its Mult-Adds, and what it has written to."""

    value: Any
    kept: list[tuple[Storage, torch.dtype]]
    mult_adds: int
    changed: Block | None = None


Count = Callable[[Any, Any, Any], int]
"""The Mult-Adds of a call's arguments, named arguments and value."""


class Effects:
    """The effects of calls, remembered over runs."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Effect] = {}

    def of(
        self,
        name: Hashable,
        function: Callable[..., Any],
        args: Any,
        kwargs: Any,
        count: Count,
        *,
        changes: bool = False,
        own: Iterable[Tensor] = (),
    ) -> Outcome:
        """What a call does to blocks among its arguments; autograd's mode is that of the surroundings.

        Args:
            name: what the call is known by; None for one that has to be run every time.
            changes: it writes to a tensor that it is given.
            own: tensors of a module that is called; what autograd keeps of them is not counted.
        """
        given: list[Block] = []

        def layout_of(item: Any) -> Layout | None:
            if type(item) is not Block:
                return None
            given.append(item)
            return item.layout

        key: Hashable = None
        with suppress(Unknown):
            key = torch.is_grad_enabled(), name, call_key(args, layout_of), call_key(kwargs, layout_of)
        effect = None if name is None or key is None else self._known.get(key)
        if effect is None:
            given.clear()
            nested.map_leaves((args, kwargs), layout_of)
            effect = _observed(function, args, kwargs, count, changes, own)
            if name is not None and key is not None:
                self._known[key] = effect
        return effect.on(given)


def _observed(function: Callable[..., Any], args: Any, kwargs: Any, count: Count, changes: bool, own: Iterable[Tensor]) -> Effect:
    """Run a call on meta tensors and tell storages apart by identity."""
    given: list[Tensor] = []
    made: list[Tensor] = []  # held, so that no storage takes another's place
    kept: dict[int, torch.dtype] = {}

    def tensor(item: Any) -> Any:
        if type(item) is not Block:
            return item
        given.append(_tensor(item.layout, changes))
        return given[-1]

    args, kwargs = nested.map_leaves((args, kwargs), tensor)
    sources = {_identity(one): index for index, one in enumerate(given)}
    weights = {_identity(one) for one in own}

    def source(one: Tensor) -> int:
        if _identity(one) not in sources:
            sources[_identity(one)] = len(sources)
            made.append(one)
        return sources[_identity(one)]

    def keep(one: Tensor) -> Tensor:
        if _identity(one) not in weights:
            kept[source(one)] = one.dtype
        return one

    def output(item: Any) -> Any:
        return _Output(Layout.of(item), source(item)) if isinstance(item, Tensor) else item

    with torch.device("meta"), saved_tensors_hooks(keep, lambda saved: saved) if torch.is_grad_enabled() else nullcontext():
        value = function(*args, **kwargs)
    outputs, changed = _mapped(value, output), output(args[0]) if changes and isinstance(args[0], Tensor) else None
    sizes = tuple(int(one.untyped_storage().nbytes()) for one in made)
    return Effect(outputs, sizes, tuple(kept.items()), count(args, kwargs, value), changed)


def _identity(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _tensor(layout: Layout, changes: bool) -> Tensor:
    """A meta tensor of this layout; one that is changed in place is no leaf of autograd."""
    if not layout.requires_grad:
        return layout.tensor()
    if not changes:
        return layout.tensor().requires_grad_()
    last = sum((size - 1) * stride for size, stride in zip(layout.shape, layout.stride, strict=True))
    whole = torch.empty(last + 1 if math.prod(layout.shape) else 0, dtype=layout.dtype, device="meta").requires_grad_().clone()
    return whole.as_strided(layout.shape, layout.stride)


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """What a call gives with its tensors replaced; sizes of torch stay what they are."""
    return value if isinstance(value, torch.Size) else nested.map_leaves(value, change)
