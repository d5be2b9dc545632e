"""The laws of ensembles whose members share weights: what each method promises, and what it does not, as `packify.verify` tells it."""

from __future__ import annotations

import torch
from torch import Tensor

from packify.core import nested
from packify.core.errors import LawBroken
from packify.laws.equality import measure_equality
from packify.laws.independence import measure_independence
from packify.laws.observation import Batch, call, floating, relative
from packify.laws.testbed import twin
from packify.nn.shared_network import SharedNetwork


def measure_shared(network: SharedNetwork, inputs: Batch, tolerance: float, *, train: bool) -> tuple[float, float, int]:
    """Largest errors of equality and of independence, and the number of tensors that independence was checked on.

    In training mode both hold where no shared norm takes statistics of the batch: otherwise they are measured in evaluation mode only.

    Args:
        network: a test bed.
        inputs: a shared batch.
        tolerance: of equality, relative to the largest value.
        train: also measure in training mode, where that is a law.

    Raises:
        LawBroken: naming the first node at which a law does not hold.
    """
    if not network.separable:
        return measure_tiling(network, inputs, tolerance), 0.0, 0
    network.eval()
    equality = measure_equality(network, inputs, tolerance)
    independence, activations = measure_independence(network, inputs)
    if train and not network.coupled:
        network.train()
        equality = max(equality, measure_equality(network, inputs, tolerance))
        leak, more = measure_independence(network, inputs)
        independence, activations = max(independence, leak), activations + more
    return equality, independence, activations


def measure_tiling(network: SharedNetwork, inputs: Batch, tolerance: float) -> float:
    """Largest difference between one input for all members, which the network repeats itself, and the same input repeated by hand.

    Raises:
        LawBroken: it is more than `tolerance` of the largest value.
    """
    network.eval()
    if "independent" not in network.graphs:
        network.inputs = "independent"

    def repeated(leaf: object) -> object:
        return torch.cat([leaf] * network.num_estimators) if isinstance(leaf, Tensor) and leaf.dim() else leaf

    tiled = Batch(nested.map_leaves(inputs.values, repeated, in_dataclasses=True), independent=True)
    with torch.no_grad():
        by_itself = floating(call(twin(network).members, inputs.values))
        by_hand = tiled.members(twin(network))
    worst = 0.0
    for index, (one, other) in enumerate(zip(by_itself, by_hand, strict=True)):
        error = relative(one, other)
        worst = max(worst, error)
        if not error < tolerance:
            raise LawBroken(
                f"output {index}",
                found=f"members(x) differs by {error:.2e} of the largest value from the members' outputs for x repeated by hand",
                why="at test every member reads the same input (law of tiling)",
                fix="please report this network",
            )
    return worst
