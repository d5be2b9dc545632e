from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import packify
from tests.laws import checks


class Detector(nn.Module):
    """Python around a trunk that can be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 1))
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        features = self.backbone(x).mean((2, 3))
        return self.head(features) if features.sum() > -1e9 else features


def test_a_part_is_packed_and_the_rest_stays() -> None:
    model, x = Detector().eval(), torch.randn(2, 3, 6, 6)
    with checks.untouched(model):
        changed = packify.pack_submodule(model, "backbone", x, alpha=2, num_estimators=2)
    assert isinstance(changed.backbone, packify.PackedNetwork)
    assert changed(x).shape == (2, 2)
    assert torch.equal(changed.head.weight, model.head.weight)
    assert changed.head.weight.data_ptr() != model.head.weight.data_ptr()
    assert isinstance(model.backbone, nn.Sequential)


@pytest.mark.parametrize("name", ["", "trunk", "backbone.7", None, 3])
def test_a_part_that_is_not_there(name: Any) -> None:
    with pytest.raises(packify.PackError) as caught:
        packify.pack_submodule(Detector(), name, torch.randn(2, 3, 6, 6), alpha=2, num_estimators=2)
    assert caught.value.fix
