from __future__ import annotations

import copy
import gc
import pickle
from typing import Any

import pytest
import torch
from torch import nn

import packify
from packify.nn.owners import OWNER, names_in, own_parts


class Stages(nn.Module):
    """Two blocks and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Linear(6, 8), nn.ReLU())
        self.two = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.two(self.one(x)))


def _packed() -> Any:
    return packify.pack(Stages(), torch.randn(2, 6), alpha=2, num_estimators=2)


def test_a_part_is_asked_and_told_how_it_is_run() -> None:
    packed = _packed()
    assert (packed.one.strategy, packed.strategies) == ("auto", {})
    packed.one.strategy = "in turn"
    packed.two.strategy = "grouped"
    assert (packed.one.strategy, packed.two.strategy) == ("in turn", "grouped")
    assert packed.strategies == {"one": "in turn", "two": "grouped"}
    packed.two.strategy = "auto"
    assert packed.strategies == {"one": "in turn"}
    packed.strategy = "in turn"
    assert (packed.one.strategy, packed.strategies) == ("auto", {})


def test_a_wrong_strategy_changes_nothing() -> None:
    packed = _packed()
    packed.one.strategy = "in turn"
    with pytest.raises(packify.SpecError, match="one of these ways"):
        packed.one.strategy = "sideways"
    assert packed.strategies == {"one": "in turn"}


def test_copies_of_a_network_own_the_copies_of_its_parts() -> None:
    packed = _packed()
    for other in (copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
        other.one.strategy = "in turn"
        assert other.strategies == {"one": "in turn"}
    assert packed.strategies == {}


def test_a_part_of_no_packed_network_has_nothing_to_choose() -> None:
    packed = _packed()
    for part in (copy.deepcopy(packed.one), copy.copy(vars(packed.one)[OWNER]), packed.extract(0).one):
        if isinstance(part, nn.Module):
            assert part.strategy == "auto"
            with pytest.raises(packify.PackError, match="no part of a packed network"):
                part.strategy = "in turn"
        else:
            assert part.network is None


def test_a_part_outlives_its_network() -> None:
    packed = _packed()
    part = packed.one
    del packed
    gc.collect()
    with pytest.raises(packify.PackError, match="no part of a packed network"):
        part.strategy = "in turn"


def test_a_part_has_all_its_names() -> None:
    network = nn.Sequential(nn.ReLU(), nn.Linear(2, 2))
    network.append(network[0])
    own_parts(network, network)
    assert names_in(network, network[0]) == ["0", "2"]
    assert vars(network[1])[OWNER].network is network


class Named(nn.Module):
    """Has a strategy of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.strategy = nn.Linear(4, 4), "double"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) * (2 if self.strategy == "double" else 1)


class NamedByClass(Named):
    """The same, said by the class."""

    strategy = "double"

    def __init__(self) -> None:
        super().__init__()
        del vars(self)["strategy"]


@pytest.mark.parametrize("kind", [Named, NamedByClass])
@pytest.mark.parametrize("whole", [False, True])
def test_what_the_reference_calls_strategy_stays_that(kind: type[Named], whole: bool) -> None:
    model = nn.Sequential(kind(), nn.Linear(4, 2)).double()
    x = torch.randn(3, 4, dtype=torch.float64)
    packed: Any = packify.pack(model, x, alpha=2, num_estimators=2, leaves=[kind] if whole else [])
    torch.testing.assert_close(packed.members(x)[1], packed.extract(1)(x))
    if whole:
        assert packed.get_submodule("0").strategy == "double"
        packed.get_submodule("0").strategy = "single"
        assert packed.strategies == {}
