"""The processes that `train.py` trains with: one, or those that torchrun starts, which share the data, the members or both."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

import packify
from packify.budgets.devices import check_mesh, parse_mesh


@dataclass(frozen=True)
class Process:
    """One of the processes that train together.

    Attributes:
        rank: its number.
        copies, copy: processes that see different data, and which of them this one is.
        device: where it computes.
        mesh: over which the members are spread, with the axes ``member`` and ``data``; None where every process has all members.
    """

    rank: int
    copies: int
    copy: int
    device: torch.device
    mesh: DeviceMesh | None = None

    @classmethod
    @contextlib.contextmanager
    def join(cls, device: str, mesh: str, num_estimators: int) -> Iterator[Process]:
        """This process; those that torchrun starts meet here, and part when the block ends.

        Raises:
            PackifyError: `mesh` is none, or fits neither the members nor the processes.
        """
        if "RANK" not in os.environ:
            _checked(mesh, num_estimators, 1)
            yield cls(0, 1, 0, torch.device(device))
            return
        on_gpu = torch.device(device).type == "cuda"
        if on_gpu:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("nccl" if on_gpu else "gloo")
        rank, world = distributed.get_rank(), distributed.get_world_size()
        try:
            sizes = _told_once(mesh, num_estimators)
            if sizes:
                made = init_device_mesh(torch.device(device).type, (sizes["member"], sizes["data"]), mesh_dim_names=("member", "data"))
                yield cls(rank, sizes["data"], made["data"].get_local_rank(), torch.device(device), made)
            else:
                yield cls(rank, world, rank, torch.device(device))
        finally:
            distributed.destroy_process_group()

    def build(self, recording: packify.Recording, spec: dict[str, Any]) -> nn.Module:
        """The packed network, or this process's members of it, with gradients that are averaged over what sees different data."""
        if self.mesh is not None:
            whole = recording.pack(**spec) if spec["weights"] != "fresh" else None  # members that inherit are ranked together
            options = {} if whole is not None else spec
            return packify.distribute(whole or recording, self.mesh, device=self.device, **options).train()
        packed = recording.pack(**spec).to(self.device).train()
        return nn.parallel.DistributedDataParallel(packed) if self.copies > 1 else packed


def _told_once(mesh: str, num_estimators: int) -> dict[str, int]:
    """The sizes of the mesh; all processes find the same fault, the first says it, and all end."""
    try:
        return _checked(mesh, num_estimators, distributed.get_world_size())
    except packify.PackifyError as error:
        if distributed.get_rank() == 0:
            print(f"error: {error}", file=sys.stderr, flush=True)
        distributed.barrier()
        sys.exit(1)


def _checked(mesh: str, num_estimators: int, world: int) -> dict[str, int]:
    if not mesh:
        return {}
    sizes = parse_mesh(mesh)
    check_mesh(sizes, num_estimators, sizes["data"])
    wanted = sizes["member"] * sizes["data"]
    if world != wanted:
        raise packify.SpecError(
            f"--mesh {mesh}",
            found=f"{world} process" + "es" * (world > 1),
            why=f"the mesh has {sizes['member']} x {sizes['data']}",
            fix=f"torchrun --nproc-per-node {wanted} examples/train.py ...",
        )
    return sizes
