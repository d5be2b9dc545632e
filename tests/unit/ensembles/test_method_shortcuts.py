from __future__ import annotations

import copy
import itertools
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

import packify
from tests.unit.ensembles.small import small_network


def test_a_shortcut_is_the_recordings_method() -> None:
    model, x = small_network(), torch.randn(2, 3, 9, 9)
    short = packify.batch_ensemble(model, x, num_estimators=3, seed=5).eval()
    long = packify.record(model, x).batch_ensemble(num_estimators=3, seed=5).eval()
    assert torch.equal(short(x), long(x))
    assert short.digest == long.digest


@pytest.mark.parametrize("norms", ["shared", "member"])
def test_an_artefact_gives_the_same_outputs(tmp_path: Path, norms: str) -> None:
    model, x = small_network(), torch.randn(2, 3, 9, 9)
    network = packify.batch_ensemble(model, x, norms=norms, layers=["0", "6"], inputs="independent").eval()  # type: ignore[arg-type]
    packify.save(network, tmp_path / "whole")
    loaded = packify.load(tmp_path / "whole", model=small_network())
    assert torch.equal(loaded(x), network(x))
    assert loaded.spec == network.spec
    assert loaded.inputs == "independent"
    assert '"method": "batch-ensemble"' in (tmp_path / "whole" / "config.json").read_text()
    packify.save_member(network, 1, tmp_path / "alone")
    alone = packify.load(tmp_path / "alone", model=small_network())
    assert torch.allclose(alone(x), network.members(x)[1], atol=1e-6)


def test_a_copy_and_a_pickle_are_the_network() -> None:
    x = torch.randn(2, 3, 9, 9)
    network = packify.batch_ensemble(small_network(), x).eval()
    for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(twin(x), network(x))
        assert twin.own == network.own
        twin.inputs = "independent"
        assert twin.train()(torch.cat([x] * 4)).shape == (8, 4)


def test_parts_of_members_that_share_weights_are_refused() -> None:
    network = packify.batch_ensemble(small_network(), torch.randn(2, 3, 9, 9))
    with pytest.raises(packify.PackError, match="share weights"):
        packify.part(network, [0])


class _Tokens(nn.Module):
    """A class token and positions beside its layers: one drawn by the network's own code, one constant."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(5, 12), nn.Linear(12, 3)
        self.cls, self.pos = nn.Parameter(torch.zeros(1, 1, 12)), nn.Parameter(torch.randn(1, 5, 12) * 0.02)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), self.embed(x)], 1) + self.pos
        return self.head(x.mean(1))


def test_members_of_a_deep_ensemble_are_drawn_like_the_reference_bare_parameters_too() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4, 5)
    deep = packify.deep_ensemble(_Tokens(), x, num_estimators=3)
    positions = deep.get_parameter("pos").detach().chunk(3)
    assert all(0.01 < float(own.std()) < 0.03 for own in positions)
    assert not any(torch.equal(own, other) for own, other in itertools.pairwise(positions))
    assert not bool(deep.get_parameter("cls").any())
    assert deep.report.packed_params == 3 * deep.report.reference_params == sum(one.numel() for one in deep.parameters())
    assert all(torch.allclose(deep.extract(member)(x), own, atol=1e-6) for member, own in enumerate(deep.eval().members(x)))


def test_members_of_a_deep_ensemble_run_in_turn_by_default(tmp_path: Path) -> None:
    x = torch.randn(2, 3, 9, 9)
    deep = packify.deep_ensemble(small_network(), x, num_estimators=2).eval()
    assert deep.strategy == "in turn"
    packify.save(deep, tmp_path / "deep")
    loaded = packify.load(tmp_path / "deep", model=small_network())
    assert loaded.strategy == "in turn"
    before = loaded(x)
    loaded.strategy = "grouped"
    assert torch.allclose(loaded(x), before, atol=1e-6)
