from __future__ import annotations

import pytest
import torch
from torch import nn

import packify
from tests.models import images


def test_factors_get_no_weight_decay_and_a_smaller_step() -> None:
    network = packify.batch_ensemble(images.LeNet(), torch.randn(2, 1, 24, 24))
    shared, factors = packify.parameter_groups(network, lr=0.1, weight_decay=5e-4)
    assert (factors["lr"], factors["weight_decay"], shared["lr"], shared["weight_decay"]) == (0.05, 0.0, 0.1, 5e-4)
    assert len(factors["params"]) == 2 * len(network.report.layers)
    assert sum(p.numel() for group in (shared, factors) for p in group["params"]) == network.report.params
    torch.optim.SGD([shared, factors], momentum=0.9)


def test_the_ensemble_may_be_a_part_and_any_other_network_has_one_group() -> None:
    network = packify.batch_ensemble(images.LeNet(), torch.randn(2, 1, 24, 24))
    whole = nn.Sequential(nn.Identity(), network)
    assert [len(group["params"]) for group in packify.parameter_groups(whole, 0.1)] == [
        len(group["params"]) for group in packify.parameter_groups(network, 0.1)
    ]
    assert [group["name"] for group in packify.parameter_groups(nn.Linear(2, 2), 0.1)] == ["shared"]


def test_frozen_parameters_are_left_out() -> None:
    network = packify.batch_ensemble(images.LeNet(), torch.randn(2, 1, 24, 24)).requires_grad_(False)
    assert packify.parameter_groups(network, 0.1) == []


def test_a_negative_step_is_refused() -> None:
    with pytest.raises(packify.SpecError, match="factor_lr"):
        packify.parameter_groups(nn.Linear(2, 2), 0.1, factor_lr=-1)


def test_a_clip_by_member_is_refused_where_members_share_weights() -> None:
    network = packify.batch_ensemble(images.LeNet(), torch.randn(2, 1, 24, 24))
    network(torch.randn(2, 1, 24, 24)).sum().backward()
    with pytest.raises(packify.SpecError, match="share weights"):
        packify.clip_grad_norm_(network, 1.0)
