"""DistributedDataParallel over two processes gives the gradients and the steps of one process with the whole batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import packify
from tests.unit.distributed.processes import on_processes

M, PROCESSES, STEPS = 3, 2, 2


def _packed() -> packify.PackedNetwork:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 12, 3, padding=1), nn.GroupNorm(3, 12), nn.ReLU(), nn.Conv2d(12, 12, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5)
    )
    return packify.pack(model.double(), torch.zeros(2, 2, 6, 6).double(), alpha=2, num_estimators=M, average="probs").train()


def _data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(12, 2, 6, 6, generator=generator, dtype=torch.float64), torch.randint(5, (12,), generator=generator)


def _steps(network: nn.Module, packed: packify.PackedNetwork, rows: slice) -> dict[str, Any]:
    """Gradients before the first step, norms of the members', and weights after the last step."""
    criterion = packify.EnsembleLoss(nn.CrossEntropyLoss())
    optimiser = torch.optim.SGD(packed.parameters(), 0.1, momentum=0.9)
    (x, y), found = _data(), {}
    for step in range(STEPS):
        optimiser.zero_grad()
        criterion(network(x[rows]), y[rows]).backward()
        if step == 0:
            found["gradients"] = {
                name: parameter.grad.clone() for name, parameter in packed.named_parameters() if parameter.grad is not None
            }
        found["norms"] = packify.clip_grad_norm_(network, 0.5)
        optimiser.step()
    return {**found, "weights": packed.state_dict()}


def _step(rank: int, folder: Path) -> None:
    packed = _packed()
    share = len(_data()[1]) // PROCESSES
    found = _steps(nn.parallel.DistributedDataParallel(packed), packed, slice(rank * share, (rank + 1) * share))
    torch.save(found, folder / f"{rank}.pt")


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    on_processes(_step, tmp_path, PROCESSES)
    packed = _packed()
    wanted = _steps(packed, packed, slice(None))
    for rank in range(PROCESSES):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found["norms"], wanted["norms"])
        for what in ("gradients", "weights"):
            assert found[what].keys() == wanted[what].keys()
            for name, value in wanted[what].items():
                torch.testing.assert_close(found[what][name], value, rtol=1e-9, atol=1e-12)
