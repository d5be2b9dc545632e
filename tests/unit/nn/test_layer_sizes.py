from __future__ import annotations

import pytest
import torch
from torch import nn

from packify.nn.layer_sizes import fans, fans_of, groups_of, sizes_by_role


@pytest.mark.parametrize("shape", [(4, 3), (8, 3, 5), (8, 2, 3, 5)])
def test_fans_are_those_of_torch(shape: tuple[int, ...]) -> None:
    weight = torch.empty(shape)
    assert fans(weight) == fans_of(shape) == nn.init._calculate_fan_in_and_fan_out(weight)


def test_groups() -> None:
    assert groups_of(nn.Conv2d(4, 8, 1, groups=2)) == 2
    assert groups_of(nn.Linear(2, 2)) == 1
    odd = nn.Linear(2, 2)
    odd.groups = "two"
    assert groups_of(odd) == 1


def test_a_weights_sizes() -> None:
    found = sizes_by_role(nn.Conv2d(4, 8, 3, groups=2), "weight")
    assert found["fan_in"] == 2 * 9
    assert found["fan_out"] == 8 * 9
    assert found["fan_out of a group"] == 4 * 9
    assert found["last axis"] == 3


def test_a_bias_has_its_layers_fan() -> None:
    assert sizes_by_role(nn.Linear(6, 4), "bias") == {"its layer's fan_in": 6, "its layer's fan_out": 4, "width": 4}
    assert sizes_by_role(nn.LayerNorm(5), "bias") == {"width": 5}


def test_a_members_sizes() -> None:
    found = sizes_by_role(nn.Linear(6, 4), "bias", {"weight": (2, 3), "bias": (2,)})
    assert found == {"its layer's fan_in": 3, "its layer's fan_out": 2, "width": 2}


def test_recurrent_layers_are_drawn_by_their_hidden_size() -> None:
    layer = nn.LSTM(3, 5, 2)
    assert sizes_by_role(layer, "weight_ih_l1") == sizes_by_role(layer, "bias_hh_l0") == {"hidden size": 5}
