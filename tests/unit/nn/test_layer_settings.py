from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from packify.nn.layer_settings import settings


@pytest.mark.parametrize(
    ("one", "two", "differing"),
    [
        (nn.BatchNorm2d(4), nn.BatchNorm2d(4, eps=1e-3), {"eps"}),
        (nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3, padding="same"), {"padding", "_reversed"}),
        (nn.Dropout(0.1), nn.Dropout(0.2), {"p"}),
        (nn.ReLU(), nn.GELU(), {"class"}),
        (nn.TransformerEncoderLayer(8, 2, activation=F.relu), nn.TransformerEncoderLayer(8, 2, activation=F.gelu), {"activation"}),
    ],
)
def test_what_differs_is_named(one: nn.Module, two: nn.Module, differing: set[str]) -> None:
    first, second = settings(one), settings(two)
    found = {name for name in first.keys() | second.keys() if first.get(name) != second.get(name)}
    assert found & differing
    assert settings(one) == first


def test_numbers_that_training_changes_are_no_settings() -> None:
    layer = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2))
    before = settings(layer)
    layer.train()(torch.randn(3, 4))
    assert settings(layer.eval()) == before
    assert before["0.eps"] == "1e-05"
    assert before["1.class"] == "Linear"


def test_objects_without_a_text_of_their_own_are_left_out() -> None:
    layer = nn.Linear(2, 2)
    layer.thing, layer.things = object(), [1, object()]
    assert not {"thing", "things"} & settings(layer).keys()
