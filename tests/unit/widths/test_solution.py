"""Configurations share a recording's widths and leave no mark on them."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import packify
from packify.capture.graphs import RecordedGraphs, record_graphs
from packify.core.spec import Spec
from packify.ops.table import RULES
from packify.widths.slimming import Slimmer
from tests.models.catalogue import CASES

NETWORKS = ("unet", "shuffles", "encoder", "window", "reused")
SPECS = (
    Spec(1, 2),
    Spec(2, 3, 2, min_channels_per_group=1),
    Spec(1, 2, 2, "uniform"),
    Spec(1, 4, heads="keep"),
    Spec(1, 2, round_to=4),
    Spec(1, 2, groups="scale"),
    Spec(3, 2, constants="keep"),
)


@functools.cache
def _recorded(name: str) -> RecordedGraphs:
    torch.manual_seed(0)
    case = CASES[name]
    return record_graphs(case.build(), case.inputs())


def _summary(slimmer: Slimmer, spec: Spec) -> Any:
    member = slimmer.member(spec)
    shapes = {name: tuple(tensor.shape) for name, tensor in (*member.root.named_parameters(), *member.root.named_buffers())}
    nodes = [(node.format_node(), getattr(node.meta["val"], "shape", None)) for graph in member.graphs.values() for node in graph.nodes]
    told = [member.layers, member.pins, member.rounded, member.lowered, member.numbers, member.heads, member.cardinality]
    return shapes, nodes, [list(notes) for notes in told]


@functools.cache
def _alone(name: str, spec: Spec) -> Any:
    return _summary(Slimmer(_recorded(name), RULES), spec)


@pytest.mark.slow_cases("unet", "encoder")
@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=6)
@given(order=st.lists(st.sampled_from(SPECS), min_size=2, max_size=6))
def test_configurations_in_any_order_give_what_each_gives_alone(name: str, order: list[Spec]) -> None:
    slimmer = Slimmer(_recorded(name), RULES)
    for spec in order:
        assert _summary(slimmer, spec) == _alone(name, spec)


def test_a_budget_and_a_conversion_share_a_member(monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["unet"]
    recording = packify.record(case.build(), case.inputs())
    from packify.widths import slimming

    solved: list[Spec] = []
    solution = slimming.Solution
    monkeypatch.setattr(slimming, "Solution", lambda analysis, spec: solved.append(spec) or solution(analysis, spec))
    budget = recording.budget(alpha=2, num_estimators=4)
    packed = recording.pack(alpha=2, num_estimators=4)
    twice = recording.pack(alpha=3, num_estimators=6)
    assert len(solved) == 1
    assert budget.packed.params == sum(parameter.numel() for parameter in packed.parameters())
    packed.report.pins.clear()
    packed.report.layers.clear()
    packed.extract(0).train()
    assert twice.report.layers
    again = recording.pack(alpha=2, num_estimators=4)
    assert again.report.layers
    assert again.digest == packed.digest
    assert all(torch.equal(one, other) for one, other in zip(packed.parameters(), again.parameters(), strict=True))


def test_what_is_left_out_makes_two_members() -> None:
    class Unused(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = torch.nn.Linear(4, 8), torch.nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.one(x)

    recording = packify.record(Unused(), torch.randn(2, 4))
    dropped, kept = (recording.pack(alpha=1, num_estimators=2, unused=unused) for unused in ("drop", "keep"))
    assert len(list(kept.parameters())) == len(list(dropped.parameters())) + 2
