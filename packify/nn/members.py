"""What runs inside a packed graph to move members between axes. A packed tensor carries M members as the outermost factor of one axis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from packify.core import nested

FRONT = -1
"""The layout with an axis of its own for the members: ``"m ..."``."""


def split_members(tensor: Tensor, axis: int, members: int) -> Tensor:
    """``"... (m a) ..." -> "m ... a ..."``, a view."""
    if axis == FRONT:
        return tensor
    unfolded: Tensor = tensor.unflatten(axis, (members, tensor.shape[axis] // members))
    return unfolded if axis == 0 else unfolded.movedim(axis, 0)


def merge_members(tensor: Tensor, axis: int) -> Tensor:
    """``"m ... a ..." -> "... (m a) ..."``, a view where the members are already outermost."""
    if axis == FRONT:
        return tensor
    return tensor.flatten(0, 1) if axis == 0 else tensor.movedim(0, axis).flatten(axis, axis + 1)


def relayout(tensor: Tensor, source: int, target: int, members: int) -> Tensor:
    """Carry the members on another axis."""
    return merge_members(split_members(tensor, source, members), target)


def repeat_members(tensor: Tensor, axis: int, members: int) -> Tensor:
    """A shared tensor, once per member: ``"... a ..." -> "... (m a) ..."``."""
    repeated = tensor.unsqueeze(0).expand(members, *tensor.shape)
    return merge_members(repeated, axis)


def cat_members(tensors: list[Tensor], axis: int, members: int) -> Tensor:
    """Concatenate along the axis that carries the members, member by member."""
    unfolded = [tensor.unflatten(axis, (members, tensor.shape[axis] // members)) for tensor in tensors]
    return torch.cat(unfolded, axis + 1).flatten(axis, axis + 1)


@dataclass(frozen=True)
class Method:
    """A tensor method as a function."""

    name: str

    def __call__(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        return getattr(tensor, self.name)(*args, **kwargs)

    @property
    def __name__(self) -> str:
        return self.name


@dataclass(frozen=True)
class PerMember:
    """A function that runs once per member, on views.

    Attributes:
        function: what runs; None for a module, which is then the first argument of the call.
        members: M.
        packed: for the tensors among the arguments, in order of appearance, whether they are ``"m ..."`` or shared.
        shared: the members share the module's tensors.
    """

    function: Callable[..., Any] | None
    members: int
    packed: tuple[bool, ...]
    shared: bool = False
    __name__ = "per_member"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        function = self.function
        module: nn.Module | None = None
        if function is None:
            module, args = args[0], args[1:]
        results = []
        for member in range(self.members):
            marks = iter(self.packed)
            inputs, named = _member_of(args, member, marks), _member_of(kwargs, member, marks)
            if module is not None:
                tensors = None if self.shared else member_tensors(module, member, self.members)
                results.append(_call_of_member(module, tensors, inputs, named))
            elif function is not None:
                results.append(function(*inputs, **named))
        return _stacked(results)


OWN_CODE = "_packify_own_code"
"""Where a module that runs a graph around its own code keeps that code, as a module that has it as its part called ``module``."""


def _call_of_member(module: nn.Module, tensors: dict[str, Tensor] | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A module with one member's `tensors`; without any, with its own, which all members share."""
    own: nn.Module | None = vars(module).get(OWN_CODE)
    if tensors is None:
        return (module if own is None else own)(*args, **kwargs)
    if own is None:
        return functional_call(module, tensors, args, kwargs)
    return functional_call(own, {f"module.{name}": tensor for name, tensor in tensors.items()}, args, kwargs)


def member_tensors(module: nn.Module, member: int, members: int) -> dict[str, Tensor]:
    """Views of one member's parameters and buffers of a packed module."""
    own = (*module.named_parameters(), *module.named_buffers())
    return {name: tensor.unflatten(0, (members, -1))[member] if tensor.dim() else tensor for name, tensor in own}


def _member_of(value: Any, member: int, marks: Iterator[bool]) -> Any:
    """One member's arguments: its view of every tensor that is ``"m ..."``, and shared ones as they are."""

    def own(leaf: Any) -> Any:
        return leaf[member] if isinstance(leaf, Tensor) and next(marks) else leaf

    return nested.map_leaves(value, own)


def _stacked(results: list[Any]) -> Any:
    """The members' results as one, every tensor ``"m ..."``; what is no tensor is the first member's."""
    if isinstance(results[0], Tensor):
        return torch.stack(results)
    if isinstance(results[0], (tuple, list)):
        return tuple(_stacked(list(items)) for items in zip(*results, strict=True))
    return results[0]
