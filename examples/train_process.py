"""The processes that `train.py` trains with: one, or those that torchrun starts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import distributed, nn


@dataclass(frozen=True)
class Process:
    """One of the processes that train together: its number, their number, its device."""

    rank: int
    world: int
    device: torch.device

    @classmethod
    @contextlib.contextmanager
    def join(cls, device: str) -> Iterator[Process]:
        """This process; those that torchrun starts meet here, and part when the block ends."""
        if "RANK" not in os.environ:
            yield cls(0, 1, torch.device(device))
            return
        on_gpu = torch.device(device).type == "cuda"
        if on_gpu:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("nccl" if on_gpu else "gloo")
        try:
            yield cls(distributed.get_rank(), distributed.get_world_size(), torch.device(device))
        finally:
            distributed.destroy_process_group()

    def parallel(self, network: nn.Module) -> nn.Module:
        """The network, with gradients that are averaged over the processes."""
        return nn.parallel.DistributedDataParallel(network) if self.world > 1 else network
