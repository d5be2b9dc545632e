"""The costs of the methods: known formulas, and what is counted when the networks run."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import packify
from packify.core.method_specs import BatchEnsembleSpec, MasksemblesSpec, MimoSpec
from packify.ensembles.methods.costs import MethodBudgets


def _network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 24, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 5),
    )


@pytest.fixture(scope="module")
def found() -> MethodBudgets:
    return packify.record(_network(), torch.randn(2, 3, 8, 8)).method_budgets(alpha=2, num_estimators=4)


def test_what_is_counted_is_what_runs(found: MethodBudgets) -> None:
    recording, x = packify.record(_network(), torch.randn(2, 3, 8, 8)), torch.randn(1, 3, 8, 8)
    for spec in (BatchEnsembleSpec(4), MasksemblesSpec(4), MimoSpec(4)):
        network, cost = recording.method(spec, average="none").eval(), found.methods[spec.method]
        with FlopCounterMode(display=False) as counter:
            network(x)
        assert cost.mult_adds == counter.get_total_flops() // 2
        assert cost.params == sum(parameter.numel() for parameter in network.parameters())
        assert cost.buffers == sum(buffer.numel() for buffer in network.buffers())
        assert cost.inference_bytes > 0
        assert cost.training_bytes > 0
        assert cost.training_bytes_in_turn == cost.training_bytes


def test_the_table_has_every_network_and_no_tensor_was_made(found: MethodBudgets) -> None:
    assert list(found.networks()) == ["reference", "batch_ensemble", "mimo", "masksembles", "packed", "deep_ensemble"]
    one = found.budget.reference
    assert found.methods["batch-ensemble"].mult_adds == 4 * one.mult_adds
    assert found.methods["masksembles"].params == one.params
    assert found.to_dict()["mimo"]["params"] == found.methods["mimo"].params


def test_what_a_network_cannot_have_is_told() -> None:
    model = nn.Sequential(nn.Embedding(20, 16), nn.Flatten(), nn.Linear(80, 4))
    found = packify.record(model, torch.zeros(2, 5, dtype=torch.long)).method_budgets(alpha=2, num_estimators=2)
    assert "whole numbers" in found.refused["mimo"]
    assert "batch_ensemble" in found.networks()


def test_layers_before_the_first_factor_run_once() -> None:
    recording = packify.record(_network(), torch.randn(2, 3, 8, 8))
    (last,) = [BatchEnsembleSpec(4, layers=("7",))]
    found = recording.method_budgets(alpha=2, num_estimators=4, methods=[last])
    head = 24 * 5
    assert found.methods["batch-ensemble"].mult_adds == found.budget.reference.mult_adds + 3 * head
