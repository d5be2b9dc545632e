"""What each device of a mesh holds while an ensemble trains, and what it sends: told before a machine is rented."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from torch import Tensor, fx

from packify.budgets.cost import Cost
from packify.core.errors import BudgetError

OptimizerName = Literal["sgd", "momentum", "adam", "adamw", "lion"]
OPTIMIZERS: tuple[OptimizerName, ...] = get_args(OptimizerName)
Parallel = Literal["ddp", "fsdp"]
# Numbers that an optimiser keeps of every parameter.
_MOMENTS: Mapping[str, int] = {"sgd": 0, "momentum": 1, "adam": 2, "adamw": 2, "lion": 1}
_AXIS = re.compile(r"(member|data)=([0-9]{1,6})")


@dataclass(frozen=True)
class Traffic:
    """What a device sends along one axis in one step.

    Attributes:
        axis: ``"member"`` or ``"data"``.
        when: ``"training step"`` or ``"inference"``.
        collective: ``"none"``, ``"all-reduce"``, ``"all-gather"`` or ``"reduce-scatter"``.
        payload_bytes: of the tensors that it is about; a ring moves about twice as many in an all-reduce, once in the others.
    """

    axis: str
    when: str
    collective: str
    payload_bytes: int


@dataclass(frozen=True)
class DevicePlan:
    """One device of a mesh, while it trains.

    Attributes:
        mesh: devices along ``member`` and ``data``.
        parallel: ``"ddp"`` or ``"fsdp"`` along ``data``.
        optimizer: whose moments are counted.
        batch: samples of a step in all.
        members: on this device.
        weight_bytes, gradient_bytes, optimizer_bytes: that are kept from step to step, with fsdp this device's share of them.
        activation_bytes: kept for backward, where this device's members run side by side.
        activation_bytes_in_turn: where each member's backward follows its forward, one member after the other.
        gathered_bytes: weights that fsdp has gathered at once, at most: the whole of this device's members.
        traffic: per step.
        memory_bytes: of a device; None where nobody said.
    """

    mesh: dict[str, int]
    parallel: Parallel
    optimizer: OptimizerName
    batch: int
    members: int
    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int
    activation_bytes_in_turn: int
    gathered_bytes: int
    traffic: tuple[Traffic, ...]
    memory_bytes: int | None

    @property
    def state_bytes(self) -> int:
        """Everything but activations."""
        return self.weight_bytes + self.gradient_bytes + self.optimizer_bytes + self.gathered_bytes

    @property
    def total_bytes(self) -> int:
        """With the members side by side. What a framework, its kernels' workspaces and fragments of memory need comes on top."""
        return self.state_bytes + self.activation_bytes

    @property
    def total_bytes_in_turn(self) -> int:
        """With the members in turn."""
        return self.state_bytes + self.activation_bytes_in_turn

    @property
    def fits(self) -> str:
        """``"side by side"``, ``"in turn"``, ``"no"``, or ``""`` where nobody said how much memory there is."""
        if self.memory_bytes is None:
            return ""
        if self.total_bytes <= self.memory_bytes:
            return "side by side"
        return "in turn" if self.total_bytes_in_turn <= self.memory_bytes else "no"

    def to_dict(self) -> dict[str, Any]:
        """The fields and the totals, as JSON-able values."""
        totals = {name: getattr(self, name) for name in ("state_bytes", "total_bytes", "total_bytes_in_turn", "fits")}
        return asdict(self) | totals


def parse_mesh(text: str) -> dict[str, int]:
    """``"member=4,data=8"`` as ``{"member": 4, "data": 8}``; an axis that is left out has one device.

    Raises:
        BudgetError: it is no mesh.
    """
    found: dict[str, int] = {}
    for part in text.split(","):
        match = _AXIS.fullmatch(part.strip())
        if match is None or match[1] in found or not int(match[2]):
            raise BudgetError("mesh", found=repr(text), why="a mesh has so many devices along member, and data", fix="pass member=4,data=8")
        found[match[1]] = int(match[2])
    return {"member": found.get("member", 1), "data": found.get("data", 1)}


def check_mesh(mesh: Mapping[str, int], num_estimators: int, batch: int) -> None:
    """Refuse a mesh that does not divide the members or the batch.

    Raises:
        BudgetError: it does not.
    """
    for axis, count, what in (("member", num_estimators, f"M = {num_estimators}"), ("data", batch, f"a batch of {batch}")):
        if count % mesh[axis] or not count:
            sizes = [size for size in range(1, min(count, 4096) + 1) if count % size == 0]
            raise BudgetError(
                f"mesh {axis}={mesh[axis]}", found=what, why="every device has the same share", fix=f"choose {axis} among {sizes[:12]}"
            )


def output_bytes(graph: fx.Graph, batch: int) -> int:
    """Bytes of a network's outputs for one sample, from its graph that was recorded with so many."""
    values = [node.meta.get("val") for node in graph.output_node().all_input_nodes]
    return sum(value.numel() * value.element_size() for value in values if isinstance(value, Tensor)) // max(1, batch)


def plan(
    own: Cost,
    member: Cost,
    mesh: Mapping[str, int],
    members: int,
    *,
    batch: int,
    optimizer: OptimizerName = "adamw",
    parallel: Parallel = "ddp",
    memory_bytes: int | None = None,
    output_bytes: int = 0,
) -> DevicePlan:
    """What a device of the mesh holds and sends.

    Args:
        own: the cost of a packed network of this device's members.
        member: of one member.
        mesh: devices along ``member`` and ``data``.
        members: on this device.
        batch: samples of a step in all; each device along ``data`` sees its share.
        optimizer: its moments are as large as the parameters each.
        parallel: ``"ddp"`` keeps everything on each device along ``data``; ``"fsdp"`` shards it, and gathers weights when they are used.
        memory_bytes: of a device.
        output_bytes: of the ensemble's output for one sample, for the reduction at inference.

    Raises:
        BudgetError: an unknown optimiser or way of data parallelism.
    """
    for name, value, known in (("optimizer", optimizer, OPTIMIZERS), ("parallel", parallel, get_args(Parallel))):
        if value not in known:
            raise BudgetError(name, found=repr(value), why=f"the known ones are {', '.join(known)}", fix=f'pass "{known[0]}"')
    shares = mesh["data"] if parallel == "fsdp" else 1
    buffers = own.total_weight_bytes - own.param_bytes
    params, samples = -(-own.param_bytes // shares), batch // mesh["data"]
    data: list[Traffic] = []
    if mesh["data"] > 1 and parallel == "ddp":
        data = [Traffic("data", "training step", "all-reduce", own.param_bytes)]
    elif mesh["data"] > 1:
        data = [
            Traffic("data", "training step", "all-gather", 2 * own.param_bytes),
            Traffic("data", "training step", "reduce-scatter", own.param_bytes),
        ]
    inference = [Traffic("member", "inference", "all-gather", mesh["member"] * samples * output_bytes)] if mesh["member"] > 1 else []
    return DevicePlan(
        mesh=dict(mesh),
        parallel=parallel,
        optimizer=optimizer,
        batch=batch,
        members=members,
        weight_bytes=params + buffers,
        gradient_bytes=params,
        optimizer_bytes=_MOMENTS[optimizer] * params,
        activation_bytes=samples * own.training_bytes,
        activation_bytes_in_turn=samples * member.training_bytes,
        gathered_bytes=own.param_bytes if shares > 1 else 0,
        traffic=(Traffic("member", "training step", "none", 0), *data, *inference),
        memory_bytes=memory_bytes,
    )
