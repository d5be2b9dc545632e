"""Networks that are a graph over a module tree."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import packify
from tests.models import interfaces, sequences


def _member() -> packify.MemberNetwork:
    torch.manual_seed(0)
    return packify.pack(interfaces.TwoInputs(), (torch.randn(2, 3, 5, 5), torch.randn(2, 4)), alpha=2, num_estimators=2).extract(0)


def test_members_are_modules_of_their_own() -> None:
    member, image, table = _member(), torch.randn(2, 3, 5, 5), torch.randn(2, 4)
    out = member(image, table=table)
    assert out.shape == (2, 3)
    assert torch.equal(copy.deepcopy(member)(image, table), out)
    assert torch.equal(pickle.loads(pickle.dumps(member))(image, table), out)
    assert member.double()(image.double(), table.double()).dtype == torch.float64
    assert isinstance(member.conv, nn.Conv2d)


def test_a_members_state_loads_into_the_users_class_at_its_widths() -> None:
    packed = packify.pack(sequences.Vit(24, 3), torch.randn(2, 3, 8, 8), alpha=1, num_estimators=2)
    sequences.Vit(12, 3).load_state_dict(packed.extract(1).state_dict())


def test_copies_stay_connected_to_their_own_parameters() -> None:
    member, image, table = _member(), torch.randn(2, 3, 5, 5), torch.randn(2, 4)
    copied = copy.deepcopy(member)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    assert not copied(image, table).any()
    assert member(image, table).any()


def test_calls_that_do_not_fit() -> None:
    member = _member()
    with pytest.raises(packify.PackError, match="table"):
        member(torch.randn(2, 3, 5, 5), None)
    with pytest.raises(TypeError):
        member()


def test_the_code_can_be_read() -> None:
    code = _member().code
    assert "    conv = self.conv(image)\n" in code
    assert "def _graph(self, image, table):\n" in code
    assert "del " not in code
