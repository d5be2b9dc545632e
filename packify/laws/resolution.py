"""A smaller input than the example's: what holds at one resolution is checked sooner at a lower one, if the network runs there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from packify.core import nested
from packify.nn.packed_network import PackedNetwork

# Axes up to this size are left alone, and no axis is cut below half of it.
_SHORT = 64


def smaller_example(network: PackedNetwork) -> Any:
    """The example with long axes, from the third on, cut to twice what the network divides them by; None where there are none.

    A ResNet makes maps of 7x7 of ``2x3x224x224``, dividing by 32, and gets ``2x3x64x64``: its last maps are 2x2, so that a batch norm
    in training mode has several numbers to take the variance of.
    """
    cut = nested.map_leaves(network.example_inputs, lambda leaf: _cut(leaf, network) if isinstance(leaf, Tensor) else leaf)
    shapes, old = ([leaf.shape for leaf in nested.flatten(value)[0] if isinstance(leaf, Tensor)] for value in (cut, network.example_inputs))
    return None if shapes == old else cut


def _cut(leaf: Tensor, network: PackedNetwork) -> Tensor:
    shape = [size if axis < 2 or size <= _SHORT else _short(size, axis, leaf.dim(), network) for axis, size in enumerate(leaf.shape)]
    return torch.empty(shape, dtype=leaf.dtype, device=leaf.device)


def _short(size: int, axis: int, ndim: int, network: PackedNetwork) -> int:
    values = (node.meta.get("val") for node in network.member_template.graphs["eval"].nodes if node.op != "get_attr")
    maps = {value.shape[axis] for value in values if isinstance(value, Tensor) and value.dim() == ndim}
    smallest = min((extent for extent in maps if extent > 1), default=size)
    return min(size, max(_SHORT // 2, 2 * -(-size // smallest)))
