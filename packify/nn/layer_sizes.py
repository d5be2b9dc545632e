"""The sizes that a layer's tensors are drawn by: fan-in, fan-out and their like."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn


def fans(tensor: Tensor) -> tuple[float, float]:
    """Fan-in and fan-out of a weight ``"o i ..."``, as torch.nn.init counts them."""
    return fans_of(tensor.shape)


def fans_of(shape: Sequence[int]) -> tuple[float, float]:
    """Fan-in and fan-out of a weight of this shape."""
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def groups_of(module: nn.Module) -> int:
    """A layer's own groups."""
    groups: Any = getattr(module, "groups", 1)
    return groups if isinstance(groups, int) and groups > 0 else 1


def sizes_by_role(
    module: nn.Module, attribute: str, shapes: Mapping[str, Sequence[int]] | None = None, groups: int | None = None
) -> dict[str, float]:
    """The sizes that a number which draws one of a layer's tensors may have been computed from, likeliest first.

    Args:
        module: the layer that holds the tensor.
        attribute: the tensor's name in it.
        shapes: of the layer's tensors; by default as they are.
        groups: the layer's groups; by default as they are.
    """
    if shapes is None:
        shapes = {name: tensor.shape for name, tensor in module._parameters.items() if tensor is not None}
    groups = groups_of(module) if groups is None else groups
    shape = shapes[attribute]
    if isinstance(module, nn.RNNBase):
        return {"hidden size": float(shapes["weight_hh_l0"][1])} if "weight_hh_l0" in shapes else {}
    if len(shape) < 2:
        weight = shapes.get("weight", ())
        found = {"width": float(shape[0])} if len(shape) else {}
        if len(weight) > 1:
            found = {"its layer's fan_in": fans_of(weight)[0], "its layer's fan_out": fans_of(weight)[1] / groups, **found}
        return found
    fan_in, fan_out = fans_of(shape)
    found = {"fan_in": fan_in, "fan_out": fan_out, "fan_out of a group": fan_out / groups, "fan_avg": (fan_in + fan_out) / 2}
    return {**found, "last axis": float(shape[-1]), "first axis": float(shape[0])}
