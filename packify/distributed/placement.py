"""Which members a process holds, on a mesh of devices ``("member", "data")``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch.distributed.device_mesh import DeviceMesh

from packify.core.errors import SpecError


@dataclass(frozen=True)
class Placement:
    """The members of one process.

    Attributes:
        num_estimators: M of the whole ensemble.
        groups: processes along ``member``: each holds ``num_estimators // groups`` members.
        group: which of them this one is.
        copies: processes along ``data``, which hold the same members and see different data.
    """

    num_estimators: int
    groups: int
    group: int
    copies: int

    @property
    def count(self) -> int:
        """Members here."""
        return self.num_estimators // self.groups

    @property
    def members(self) -> range:
        """Their numbers in the whole ensemble."""
        return range(self.group * self.count, (self.group + 1) * self.count)


def place_members(mesh: Any, num_estimators: int) -> Placement:
    """The placement of this process. Every process finds the same fault, so that all of them end with the same message.

    Raises:
        SpecError: the mesh has other axes, or ``member`` does not divide M.
    """
    names = tuple(mesh.mesh_dim_names or ()) if isinstance(mesh, DeviceMesh) else ()
    if "member" not in names or not set(names) <= {"member", "data"}:
        raise SpecError(
            "mesh",
            found=f"axes {names}" if names else f"a {type(mesh).__name__} without names",
            why="members are spread over the axis member, batches over the axis data",
            fix='pass init_device_mesh("cuda", (4, 2), mesh_dim_names=("member", "data"))',
        )
    groups = mesh["member"].size()
    if num_estimators % groups:
        raise SpecError(
            f"mesh member={groups}",
            found=f"M = {num_estimators}",
            why="every process holds the same number of members",
            fix=f"choose member among {[size for size in range(1, num_estimators + 1) if num_estimators % size == 0]}",
        )
    copies = mesh["data"].size() if "data" in names else 1
    return Placement(num_estimators, groups, mesh["member"].get_local_rank(), copies)
