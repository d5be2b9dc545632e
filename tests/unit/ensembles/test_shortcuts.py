from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import packify
from tests.laws import checks
from tests.models import images, interfaces, sequences
from tests.unit.ensembles.small import small_network


def test_example_inputs_as_tensor_tuple_and_dict() -> None:
    model = interfaces.TwoInputs()
    image, table = torch.randn(2, 3, 5, 5), torch.randn(2, 4)
    by_place = packify.pack(model, (image, table), alpha=2, num_estimators=2)
    by_name = packify.pack(model, {"image": image, "table": table}, alpha=2, num_estimators=2)
    with torch.no_grad():
        expected = by_place.members(image, table)
        checks.close(by_name.members(table=table, image=image), expected, "by name")
        checks.close(by_place.members(image, table=table), expected, "by both")


def test_example_batch_of_one() -> None:
    packed = packify.pack(small_network(), torch.randn(1, 3, 8, 8), alpha=2, num_estimators=2).eval()
    assert packed(torch.randn(7, 3, 8, 8)).shape == (7, 4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_estimators": 0}, {"num_estimators": -1}, {"num_estimators": 2.0},
        {"alpha": 0}, {"alpha": -1}, {"alpha": float("nan")}, {"alpha": "2"},
        {"gamma": 0}, {"gamma": 1.5}, {"gamma_policy": "papers"}, {"min_channels_per_group": 0}, {"round_to": 0},
        {"inputs": "both"}, {"average": "median"}, {"average": {"nope": "none"}}, {"average": ["probs", "mean"]}, {"average": []},
        {"seed": "a"}, {"seed": 1.5}, {"seed": None}, {"seed": 2**70}, {"seed": -1},
        {"leaves": ["Conv2d"]}, {"leaves": None}, {"leaves": [nn.ReLU()]}, {"alpha": 1e9},
    ],
)  # fmt: skip
def test_wrong_numbers(wrong: dict[str, Any]) -> None:
    with pytest.raises(packify.SpecError) as caught:
        packify.pack(small_network(), torch.randn(2, 3, 8, 8), **{"alpha": 2, "num_estimators": 2, **wrong})
    assert caught.value.where
    assert caught.value.fix


def test_whole_numbers_of_other_libraries() -> None:
    numbers = {"alpha": np.float32(2), "num_estimators": np.int64(4), "gamma": np.int64(2), "seed": np.int64(1)}
    packed = packify.pack(small_network(), torch.randn(2, 3, 8, 8), **numbers)
    assert packed.spec == packify.Spec(2, 4, 2)
    assert json.dumps(packed.spec.to_dict())


def test_no_silence() -> None:
    torch.manual_seed(0)
    report = packify.pack(sequences.Vit(), torch.randn(2, 3, 8, 8), alpha=2, num_estimators=4).report
    assert any("head" in note.node for note in report.pins)
    assert str(report)
    report = packify.pack(images.vgg(), torch.randn(2, 3, 8, 8), alpha=2, num_estimators=3).report
    assert report.rounded
    report = packify.pack(interfaces.Wide(), torch.randn(2, 3, 8, 8), alpha=2, num_estimators=4, gamma=2).report
    lowered = {note.node for note in report.lowered}
    for layer in report.layers:
        assert (layer.gamma < layer.gamma_wanted) == (layer.name in lowered), layer
    assert lowered
    assert any(layer.gamma == 2 for layer in report.layers)
    report = packify.pack(sequences.Recurrent("lstm"), torch.randn(2, 4, 5), alpha=2, num_estimators=2).report
    assert report.fallbacks


def test_the_report_is_json() -> None:
    report = packify.pack(images.UNet(), torch.randn(2, 3, 8, 8), alpha=1.5, num_estimators=4, gamma=2).report
    values = json.loads(json.dumps(report.to_dict()))
    assert values["packed_params"] == report.packed_params
    assert {layer["name"] for layer in values["layers"]} >= {"down1.0", "up1", "out"}


@pytest.mark.parametrize("policy", ["paper", "uniform"])
def test_gamma_that_can_never_divide_is_an_error(policy: Any) -> None:
    with pytest.raises(packify.SpecError, match="gamma"):
        packify.pack(small_network(), torch.randn(2, 3, 8, 8), alpha=2, num_estimators=2, gamma=1000, gamma_policy=policy)


def test_widths_rounded_for_gamma_are_in_the_report() -> None:
    report = packify.pack(small_network(), torch.randn(2, 3, 8, 8), alpha=2, num_estimators=2, gamma=3, gamma_policy="uniform").report
    assert next(layer for layer in report.layers if layer.name == "3").member_out == 9
    assert report.rounded
