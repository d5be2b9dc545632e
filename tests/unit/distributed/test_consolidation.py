from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import packify
from packify.core.errors import ArtefactError
from tests.unit.distributed.processes import OPTIONS, Net, mesh_of, on_processes, recording


def _saved(rank: int, folder: Path) -> None:
    ensemble = packify.distribute(recording(), mesh_of(1, 1), seed=3, **OPTIONS)
    packify.save_checkpoint(ensemble, folder / "checkpoint")


@pytest.mark.slow
def test_bit_for_bit(tmp_path: Path) -> None:
    on_processes(_saved, tmp_path, 1)
    model = Net().double()
    packify.consolidate(tmp_path / "checkpoint", tmp_path / "net", model=model)
    found, wanted = packify.load(tmp_path / "net", model=model), recording().pack(**OPTIONS, seed=3)
    for name, value in wanted.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name
    with pytest.raises(ArtefactError, match="--force"):
        packify.consolidate(tmp_path / "checkpoint", tmp_path / "net", model=model)
    with pytest.raises(ArtefactError, match="--model"):
        packify.consolidate(tmp_path / "checkpoint", tmp_path / "other")
    with pytest.raises(ArtefactError):
        packify.consolidate(tmp_path / "checkpoint", tmp_path / "other", model=nn.Linear(3, 2))
    (tmp_path / "checkpoint/.metadata").unlink()
    with pytest.raises(ArtefactError, match="no checkpoint"):
        packify.consolidate(tmp_path / "checkpoint", tmp_path / "other", model=model)
    assert not (tmp_path / "other").exists()
