from __future__ import annotations

from typing import Any

import pytest
import torch

import packify
from packify.core.errors import SpecError
from packify.ensembles.starting import Start, repeat_first_member
from tests.unit.ensembles.small import small_network

_X = torch.randn(2, 3, 8, 8)


def _pack(**settings: Any) -> packify.PackedNetwork:
    return packify.pack(small_network(), _X, alpha=2, num_estimators=2, **settings)


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        (("inherited", 0, "own"), "weights"),
        (("fresh", 0, "mine"), "member_seeds"),
        (("inherit", 0, "own", "torch"), "init"),
        (("fresh", 0, "own", "glorot"), "init"),
    ],
)
def test_what_members_cannot_start_from(settings: Any, where: str) -> None:
    with pytest.raises(SpecError) as caught:
        Start(*settings)
    assert caught.value.where == where


def test_every_member_has_chance_of_its_own_unless_they_share_it() -> None:
    own, same = (_pack(member_seeds=seeds).get_parameter("0.weight").chunk(2) for seeds in ("own", "same"))
    assert not torch.equal(*own)
    assert torch.equal(*same)


def test_the_report_says_how_they_were_drawn() -> None:
    report = _pack().report
    assert report.initialised.keys() == {name for name, _ in small_network().named_parameters()}
    assert {kind.kind for kind in report.schemes}
    inherited = _pack(weights="inherit").report
    assert [kind.kind for kind in inherited.schemes] == ["parameters"]


def test_repeating_leaves_shared_numbers_alone() -> None:
    packed = _pack()
    before = packed.get_buffer("1.num_batches_tracked").clone()
    repeat_first_member(packed)
    assert all(torch.equal(*tensor.chunk(2)) for tensor in packed.parameters())
    assert torch.equal(packed.get_buffer("1.num_batches_tracked"), before)
