"""What was written to a tensor while its network was built."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from packify.nn.recipes import Call, is_resizable

# Methods with an underscore that change no number.
QUIET = frozenset("requires_grad_ detach_ share_memory_ rename_ retain_grad set_ resize_ squeeze_ unsqueeze_ t_ transpose_".split())
# Functions of single elements that a tensor's method of the same name, with an underscore, does in place.
POINTWISE = frozenset("add sub mul div true_divide neg clamp abs exp log sqrt pow sigmoid tanh".split())
# What is the same whatever the shape.
ANY_SHAPE = frozenset((*(f"{name}_" for name in POINTWISE), "uniform_", "normal_", "fill_", "zero_", "constant_", "ones_", "zeros_"))


@dataclass(eq=False)
class Fill:
    """One method, or function of torch.nn.init, that wrote to a tensor.

    Attributes:
        order: of all that was written in the build.
        name: of the method.
        numbers: its arguments but the tensor.
        shape: of the tensor as the method saw it.
        rows: the part of its memory that it wrote to, from which share to which; None for all of it.
        own: the method as a call; None where it cannot be repeated.
        of_tensor: the outermost function that was called with the tensor and, beside it, only with numbers, words and functions.
        of_module: the same for the layer that holds the tensor, with that layer (weakly) and the tensor's name in it.
    """

    order: int
    name: str
    numbers: tuple[Any, ...]
    shape: tuple[int, ...]
    rows: tuple[Fraction, Fraction] | None
    own: Call | None
    of_tensor: Call | None = None
    of_module: tuple[Call, weakref.ref[nn.Module], str] | None = None


@dataclass(eq=False)
class History:
    """What was written to one storage.

    Attributes:
        fills: from the last that overwrote all of it.
        written: something was written to it since it was allocated.
        loaded: since then other numbers were copied there that nobody saw being made, such as a checkpoint's.
        keeper: a weak reference to the storage; while there is one, no other storage gets its number, even after its memory is freed.
    """

    fills: list[Fill] = field(default_factory=list)
    written: bool = False
    loaded: bool = False
    keeper: StorageWeakRef | None = None


def storage_of(tensor: Tensor) -> int:
    """A number that tensors over the same memory share."""
    return int(tensor.untyped_storage()._cdata)


def is_whole(tensor: Tensor) -> bool:
    """The tensor has all elements of its memory, each once."""
    return bool(tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes())


def part_of(tensor: Tensor) -> tuple[Fraction, Fraction] | None:
    """The part of its memory that a contiguous tensor has, from which share to which."""
    whole = tensor.untyped_storage().nbytes() // tensor.element_size()
    if not tensor.is_contiguous() or not whole:
        return None
    start = int(tensor.storage_offset())
    return Fraction(start, whole), Fraction(start + tensor.numel(), whole)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested arguments."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        yield from tensors_in(tuple(value.values()))


def writes(name: str) -> bool:
    """A method that writes to its tensor."""
    return (name.endswith("_") and not name.endswith("__") and name not in QUIET) or name in _AUGMENTED


_AUGMENTED = frozenset("__setitem__ __iadd__ __isub__ __imul__ __itruediv__ __idiv__ __ipow__".split())


def attribute_of(module: nn.Module, key: int) -> str | None:
    """The name of the module's own parameter that lies in a storage."""
    return next((name for name, tensor in module._parameters.items() if tensor is not None and storage_of(tensor) == key), None)


def is_subject(value: Any, key: int, tensor: Tensor) -> bool:
    """The tensor that is written to, or a layer that holds it and can be had at other sizes."""
    if isinstance(value, Tensor):
        return value is tensor or (storage_of(value) == key and is_whole(value))
    return isinstance(value, nn.Module) and is_resizable(value) and attribute_of(value, key) is not None
