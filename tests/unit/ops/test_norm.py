"""Norms: parameters as wide as what they normalise, no statistics of one member in another."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import packify
from packify.ops import norm
from packify.widths.propagation import Call
from tests.unit.ops.calls import NORMS, real
from tests.unit.ops.single import check_packing, check_widths, dims_of, single


@pytest.mark.parametrize("name", NORMS)
def test_packed_calls_are_the_members_calls(name: str) -> None:
    check_packing(*NORMS[name])


@pytest.mark.parametrize("name", NORMS)
def test_any_sizes_that_the_dims_allow_fit(name: str) -> None:
    check_widths(*NORMS[name])


def test_parameters_have_the_widths_of_channels() -> None:
    walk, dims = dims_of(single(F.batch_norm, real(4, 3, 5), real(3), real(3), real(3), real(3)))
    assert {dims[1].root()} == {walk.parameters.dims[f"t{index}"][0].root() for index in range(1, 5)}
    walk, dims = dims_of(single(F.layer_norm, real(2, 3, 4), (3, 4), real(3, 4)))
    assert [dim.root() for dim in dims[1:]] == [dim.root() for dim in walk.parameters.dims["t1"]]


def test_a_width_stays_a_multiple_of_its_groups_unless_each_channel_is_one() -> None:
    _, dims = dims_of(single(F.group_norm, real(4, 6, 5), 3))
    assert dims[1].root().multiple == 3
    _, dims = dims_of(single(F.group_norm, real(4, 6, 5), 6))
    assert dims[1].root().multiple == 1


def test_refits() -> None:
    assert norm.refit_layer_norm(Call({"normalized_shape": (3, 8)}, (2, 3, 4), {})) == {"normalized_shape": (3, 4)}
    assert norm.refit_layer_norm(Call({"normalized_shape": [4]}, (2, 3, 4), {})) == {}
    assert norm.refit_group_norm(Call({"num_groups": 6}, (4, 3, 5), {1: (0, 3, 0)}), 6) == {"num_groups": 3}
    assert norm.refit_group_norm(Call({"num_groups": 2}, (4, 3, 5), {}), 2) == {}


@pytest.mark.parametrize("norm_of", [nn.BatchNorm1d, lambda channels: nn.InstanceNorm1d(channels, affine=True, track_running_stats=True)])
def test_modules_of_channels_run_once_for_all_members(norm_of: Any) -> None:
    x = torch.randn(4, 3, 5)
    model = nn.Sequential(nn.Conv1d(3, 8, 1), norm_of(8), nn.Conv1d(8, 2, 1))
    packed = packify.pack(model, x, alpha=2, num_estimators=2)
    assert not packed.report.fallbacks
    assert packify.verify(packed, x).equality < 1e-9
    assert all(tensor.shape[0] == 2 * 8 for name, tensor in packed.state_dict().items() if name.startswith("1.") and tensor.dim())
