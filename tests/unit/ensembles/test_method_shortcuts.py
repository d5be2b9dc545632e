from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch

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
