"""The law of equality: a packed member computes what it computes alone."""

from __future__ import annotations

import torch
from torch import Tensor

from packify.core.errors import LawBroken
from packify.laws.observation import Batch, call, floating, observe, relative
from packify.laws.testbed import twin
from packify.nn.graph_network import MemberNetwork
from packify.nn.members import split_members
from packify.nn.packed_network import PackedNetwork
from packify.nn.wrappers import has_forward_hooks


def measure_equality(network: PackedNetwork, inputs: Batch, tolerance: float) -> float:
    """Largest difference between a packed member and the same member alone, in evaluation mode.

    Raises:
        LawBroken: it is more than `tolerance` of the largest value.
    """
    worst = 0.0
    with torch.no_grad():
        packed = inputs.members(twin(network))  # a forward may write to buffers
        for member in range(network.num_estimators):
            single = network.extract(member)
            alone = floating(call(single, inputs.of(network, member)))
            worst = max(worst, compared(network, single, packed, alone, inputs, member, tolerance))
    return worst


def compared(
    network: PackedNetwork, single: MemberNetwork, packed: list[Tensor], alone: list[Tensor], inputs: Batch, member: int, tolerance: float
) -> float:
    """Largest difference between one member's packed outputs and those of the member alone.

    Raises:
        LawBroken: naming the first node that differs, if it is more than `tolerance` of the largest value.
    """
    worst = 0.0
    for index, (outputs, own) in enumerate(zip(packed, alone, strict=True)):
        error = relative(outputs[member], own)
        worst = max(worst, error)
        if not error < tolerance:
            hooked = any(map(has_forward_hooks, network.modules()))  # they may change what parts compute; members taken out have none
            raise LawBroken(
                f"output {index} of member {member} in {'train' if network.training else 'eval'} mode",
                found=f"members(x) differs from extract({member})(x) by {error:.2e} of the largest value",
                why="a packed member must compute what it computes alone (law of equality)",
                fix=("take the hooks off and verify again; " if hooked else "please report this network; ")
                + "the first node that differs is "
                + _first_difference(network, single, inputs, member, tolerance),
            )
    return worst


def _first_difference(network: PackedNetwork, single: MemberNetwork, inputs: Batch, member: int, tolerance: float) -> str:
    """The first node of the member's graph whose value differs."""
    watch, _ = observe(network, inputs)
    alone, _ = observe(single, Batch(inputs.of(network, member)))
    values = {node.name: value for node, value in alone.seen.items()}
    for node, value in watch.seen.items():
        origin = node.meta.get("member_node")
        axis = node.meta.get("axis")
        if (
            origin is None
            or origin.name not in values
            or axis is None
            or "val" not in node.meta
            or tuple(node.meta["val"].shape) != tuple(origin.meta["val"].shape)
        ):
            continue
        mine = split_members(value, axis, network.num_estimators)[member]
        if not relative(mine, values[origin.name]) < tolerance:
            return f"{origin.name} ({origin.meta['op']} in {origin.meta['path']}, {origin.meta['source']})"
    return "unknown"
