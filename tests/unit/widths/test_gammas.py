"""One configuration's gammas: agreed over modes, asked of widths, refused where no layer can have them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from packify import SpecError
from packify.capture.graphs import record_graphs
from packify.core.spec import Spec
from packify.nn.subgroups import Subgroups
from packify.ops.table import RULES
from packify.widths.analysis import WidthAnalysis
from packify.widths.assignment import Pins, assign
from packify.widths.gammas import asked_of_widths, choose_gammas


class Gate(nn.Module):
    """In evaluation its output is cut into halves, in training nothing is done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fused, self.last = nn.Linear(5, 24), nn.Linear(24, 24), nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.fused(self.stem(x).relu())
        return self.last(y if self.training else torch.cat(y.chunk(2, -1)[::-1], -1))


def _cut(gamma: int, policy: str = "uniform") -> dict[str, set[Subgroups]]:
    analysis, spec = WidthAnalysis(record_graphs(Gate(), torch.randn(2, 5)), RULES), Spec(1, 2, gamma, policy, min_channels_per_group=1)
    asked, pins = asked_of_widths(analysis, spec) if policy == "uniform" else {}, Pins()
    sizes = assign(analysis.roots, spec.ratio, 1, pins, asked)
    found = choose_gammas(analysis, spec, sizes, pins, ())
    return {layer.name: {found.cut[node]} for node, layer in analysis.layers.items() if node in found.cut}


def test_all_modes_cut_a_weight_alike() -> None:
    """The parts of one mode are parts in all: the weight has one order of rows."""
    assert _cut(2) == {"fused": {Subgroups(1, 2, (6, 6))}}


def test_the_uniform_policy_asks_for_parts_that_gamma_divides() -> None:
    assert _cut(4) == {"fused": {Subgroups(1, 4, (8, 8))}}
    assert _cut(4, "paper") == {"fused": {Subgroups(1, 3, (6, 6))}}


def test_a_gamma_that_no_layer_can_have() -> None:
    with pytest.raises(SpecError, match="12 input channels"):
        _cut(13)
