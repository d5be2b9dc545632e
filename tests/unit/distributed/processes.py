"""What the tests of this room run on several processes."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.multiprocessing import start_processes

import packify

MEMBERS = 4
_HEAVY = ("pytest", "torch._dynamo", "torch.distributed.checkpoint", "torch.distributed.fsdp", "torch.distributed.tensor")
OPTIONS: dict[str, Any] = {"alpha": 2, "num_estimators": MEMBERS, "average": "probs"}


class Net(nn.Module):
    """Layers of several kinds, without statistics of the batch, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.body = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.register_buffer("scale", torch.full((1,), 0.5), persistent=False)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu().mean((2, 3))
        return self.fc(x + self.scale * self.body(x))


def recording() -> packify.Recording:
    torch.manual_seed(0)
    return packify.record(Net().double(), torch.zeros(2, 1, 4, 4, dtype=torch.float64))


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(8, 1, 4, 4, dtype=torch.float64, generator=generator), torch.randint(5, (8,), generator=generator)


def steps(network: nn.Module, packed: nn.Module, optimizer: torch.optim.Optimizer, rows: slice, count: int = 5) -> None:
    """Steps of training, each on the same batch."""
    x, y = data()
    criterion = packify.EnsembleLoss(nn.CrossEntropyLoss())
    for _ in range(count):
        optimizer.zero_grad()
        criterion(network(x[rows]), y[rows]).backward()
        optimizer.step()


def adam(packed: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(packed.parameters(), 0.01)


def whole() -> tuple[packify.PackedNetwork, torch.optim.Optimizer]:
    """The ensemble of one process, after its steps."""
    packed = recording().pack(**OPTIONS, seed=3).train()
    optimizer = adam(packed)
    steps(packed, packed, optimizer, slice(None))
    return packed, optimizer


def mesh_of(member: int, data: int) -> DeviceMesh:
    return init_device_mesh("cpu", (member, data), mesh_dim_names=("member", "data"))


def on_processes(work: Callable[..., None], folder: Path, count: int, *args: Any) -> None:
    """Run ``work(rank, folder, *args)`` on so many processes that know each other.

    They are forks of one process that has imported what they need: the imports are most of the time of a small test.
    """
    multiprocessing.set_forkserver_preload([*_HEAVY, *(name for name in sys.modules if name.startswith("packify.")), __name__])
    start_processes(_process, (work, str(folder), count, args), nprocs=count, start_method="forkserver")


def _process(rank: int, work: Callable[..., None], folder: str, count: int, args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    meet = Path(folder) / f"meet-{work.__name__}-{count}-{'-'.join(map(str, args))}"
    dist.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=count)
    try:
        work(rank, Path(folder), *args)
    finally:
        dist.destroy_process_group()
