from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import packify
from packify.ops.table import RULES
from tests.unit.ensembles.small import Returning, small_network


def test_outputs_that_no_parameter_changes() -> None:
    notes = packify.pack(Returning("x"), torch.randn(2, 5), alpha=2, num_estimators=2).report.notes
    assert any("depends on a parameter" in note.what for note in notes)
    notes = packify.pack(small_network(), torch.randn(2, 3, 8, 8), alpha=2, num_estimators=2).report.notes
    assert not notes


@pytest.mark.parametrize(
    "register",
    [
        lambda model: model[0].register_forward_hook(print),
        lambda model: model[0].register_forward_pre_hook(print),
        lambda model: model[0].register_full_backward_hook(print),
        lambda model: model[0].register_full_backward_pre_hook(print),
        lambda model: model[0].weight.register_hook(print),
        lambda model: model[0].weight.register_post_accumulate_grad_hook(print),
    ],
)
def test_every_kind_of_hook_is_told(register: Any) -> None:
    model, x = small_network(), torch.randn(2, 3, 8, 8)
    register(model)
    for packed in (packify.pack(model, x, alpha=2, num_estimators=2), packify.pack_members([small_network(), model], x)):
        (note,) = packed.report.notes
        assert note.node.startswith("0")
        assert "hooks" in note.what


def test_hooks_that_compute_a_weight_are_part_of_the_network() -> None:
    model = nn.Sequential(torch.nn.utils.spectral_norm(nn.Linear(5, 8)), nn.ReLU(), nn.Linear(8, 3))
    assert not packify.pack(model, torch.randn(2, 5), alpha=2, num_estimators=2).report.notes


def test_leaves_and_rules_without_effect_are_told() -> None:
    rules = {"no_such_operator": packify.Rule("pointwise"), "relu": RULES["relu"]}
    report = packify.pack(small_network(), torch.randn(2, 3, 8, 8), alpha=2, num_estimators=2, leaves=nn.LSTM, rules=rules).report
    assert [note.node for note in report.notes] == ["LSTM", "rules['no_such_operator']"]


def _raising(*_: Any) -> Any:
    raise KeyError("oops")


def _elsewhere(builder: Any, node: Any, x: Any) -> Any:
    return builder.result(builder.again(node, (x,), {}), node.meta["val"], 7)


@pytest.mark.parametrize(
    ("part", "rule"),
    [
        ("widths", _raising),
        ("widths", lambda propagation, x: None),
        ("widths", lambda propagation, x: [*x.shape]),
        ("widths", lambda propagation, x: x.dims[1:]),
        ("pack", _raising),
        ("pack", lambda builder, node, x: None),
        ("pack", _elsewhere),
    ],
)
def test_what_a_users_rule_does_wrong_is_said_of_the_rule(part: str, rule: Any) -> None:
    parts = {"widths": lambda propagation, x: x.dims, part: rule}
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
    with pytest.raises(packify.PackError) as caught:
        packify.pack(model, torch.randn(2, 5), alpha=2, num_estimators=2, rules={"tanh": packify.Rule("own", **parts)})
    assert caught.value.where == f"rules['tanh'].{part}"
