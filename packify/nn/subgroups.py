"""Rows of a layer that gamma cuts: part by part, as the reference has them, and subgroup by subgroup, as grouped kernels read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Subgroups:
    """How gamma cuts a layer.

    Attributes:
        groups: the layer's own groups.
        gamma: the subgroups of each.
        parts: outputs of each part of one group, where the output is later cut into several: q, k and v of a fused projection.
    """

    groups: int
    gamma: int
    parts: tuple[int, ...] = ()


def by_group(input: Tensor, axis: int, groups: int, gamma: int, parts: Sequence[int]) -> Tensor:
    """An axis ``"(group (part gamma o))"`` in the order ``"(group gamma (part o))"``; parts of `parts` elements, which may differ."""
    axis %= input.dim()
    if len(parts) < 2:
        return input
    blocks = input.unflatten(axis, (groups, -1))
    if len(set(parts)) == 1:
        turned: Tensor = blocks.unflatten(axis + 1, (len(parts), gamma, -1)).transpose(axis + 1, axis + 2)
        return turned.flatten(axis, axis + 3)
    pieces = [piece.unflatten(axis + 1, (gamma, -1)) for piece in blocks.split(list(parts), axis + 1)]
    return torch.cat(pieces, axis + 2).flatten(axis, axis + 2)


def by_part(input: Tensor, axis: int, groups: int, gamma: int, parts: Sequence[int]) -> Tensor:
    """The order that `by_group` takes, from the one that it gives."""
    axis %= input.dim()
    if len(parts) < 2:
        return input
    blocks = input.unflatten(axis, (groups, gamma, -1))
    if len(set(parts)) == 1:
        turned: Tensor = blocks.unflatten(axis + 2, (len(parts), -1)).transpose(axis + 1, axis + 2)
        return turned.flatten(axis, axis + 3)
    pieces = [piece.flatten(axis + 1, axis + 2) for piece in blocks.split([size // gamma for size in parts], axis + 2)]
    return torch.cat(pieces, axis + 1).flatten(axis, axis + 1)
