from __future__ import annotations

from pathlib import Path

import pytest
import torch

import packify
from tests.unit.cli.commands import check_refused, document
from tests.unit.distributed.processes import mesh_of, on_processes


def _saved(rank: int, folder: Path, nets: Path) -> None:
    reference = packify.load_reference(f"{nets}:Mlp")
    recording = packify.record(reference, torch.zeros(2, 12))
    ensemble = packify.distribute(recording, mesh_of(1, 1), alpha=2, num_estimators=2, average="mean")
    packify.save_checkpoint(ensemble, folder / "checkpoint")


@pytest.mark.slow
def test_a_checkpoint(project: Path) -> None:
    check_refused(("consolidate", "nothing"), 1, "no checkpoint")
    on_processes(_saved, project, 1, "nets.py")
    found = document("consolidate", str(project / "checkpoint"), "--model", "nets.py:Mlp")
    assert Path(found["written"]).name == "checkpoint-whole"
    assert (project / "checkpoint-whole/model.safetensors").is_file()
    check_refused(("consolidate", str(project / "checkpoint"), "--model", "nets.py:Mlp"), 1, "--force")
