"""`packify.distribute`: the members of an ensemble over the processes of a mesh."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.nn.parallel import DistributedDataParallel

from packify.core import nested
from packify.core.errors import SpecError
from packify.core.spec import Spec
from packify.distributed.gathering import gathered
from packify.distributed.placement import Placement, place_members
from packify.ensembles.parts import part
from packify.ensembles.recording import Recording
from packify.nn.averaging import averaged
from packify.nn.packed_network import PackedNetwork
from packify.nn.ports import ports_of

Wrap = Literal["ddp", "fsdp"]


class DistributedEnsemble(nn.Module):
    """The members of this process, as part of an ensemble of which every process of a mesh holds some.

    In training mode a call gives the outputs of this process's members, ``"(m b) ..."``, as a packed network does: take the sum of
    their losses (`EnsembleLoss`), clip per member (`clip_grad_norm_`), step. Nothing is sent between members; gradients are averaged
    over ``data`` alone. In evaluation mode a call gives every process the average of the whole ensemble, by one collective.

    Attributes:
        packed: the members here, a packed network of its own.
        placement: which members they are.
        mesh: ``("member", "data")``.
        spec: of the whole ensemble.
        wrap: how ``data`` is parallel: ``"ddp"``, ``"fsdp"``, or ``""`` on one process per member group.
    """

    def __init__(self, packed: PackedNetwork, mesh: DeviceMesh, place: Placement, spec: Spec, wrap: Wrap) -> None:
        super().__init__()
        self.packed = packed
        self.placement, self.mesh, self.spec = place, mesh, spec
        self.wrap: str = wrap if place.copies > 1 else ""
        self.__dict__["runs"] = packed
        if self.wrap == "ddp":
            group = mesh["data"].get_group()
            # a bucket is the gradients themselves, not a copy of them
            self.__dict__["runs"] = DistributedDataParallel(packed, process_group=group, gradient_as_bucket_view=True)
        elif self.wrap == "fsdp":
            _shard(packed, mesh["data"])

    @property
    def num_estimators(self) -> int:
        """M of the whole ensemble."""
        return self.placement.num_estimators

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """``"(m b) ..."`` of the members here in training mode; the average over all members, everywhere, in evaluation mode."""
        if self.training:
            return self.__dict__["runs"](*args, **kwargs)
        kinds = self.packed.averages["eval"]
        if any(how in ("vote", "none") for how in kinds):  # no average of averages
            leaves, template = nested.flatten(self.members(*args, **kwargs))
            return nested.unflatten(template, [averaged(leaf, how) for leaf, how in zip(leaves, kinds, strict=True)])
        leaves, template = nested.flatten(self.packed(*args, **kwargs))
        means = self._gathered(leaves)
        # every process has as many members, so that the average of averages is the average
        return nested.unflatten(template, [averaged(mean, how) for mean, how in zip(means, kinds, strict=True)])

    def members(self, *args: Any, **kwargs: Any) -> Any:
        """Every member's outputs of the whole ensemble, ``"m b ..."``, on every process."""
        leaves, template = nested.flatten(self.packed.members(*args, **kwargs))
        everyone = [leaf.flatten(0, 1) if isinstance(leaf, Tensor) else leaf for leaf in self._gathered(leaves)]
        return nested.unflatten(template, everyone)

    def train(self, mode: bool = True) -> DistributedEnsemble:
        super().train(mode)
        self.__dict__["runs"].train(mode)
        return self

    def _gathered(self, leaves: list[Any]) -> list[Any]:
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        group = self.mesh["member"].get_group() if self.placement.groups > 1 else None
        everyone = iter(gathered(tensors, group, self.placement.groups))
        return [next(everyone) if isinstance(leaf, Tensor) else leaf for leaf in leaves]

    def extra_repr(self) -> str:
        mesh = ", ".join(f"{name}={self.mesh[name].size()}" for name in self.mesh.mesh_dim_names or ())
        return f"members {list(self.placement.members)} of {self.num_estimators}, mesh {mesh}, {self.wrap or 'no data parallelism'}"


def distribute(
    recording_or_packed: Any,
    mesh: DeviceMesh,
    *,
    wrap: Wrap = "ddp",
    seed: int = 0,
    device: torch.device | str | None = None,
    **options: Any,
) -> DistributedEnsemble:
    """Spread an ensemble over the processes of a mesh: each builds and holds its own members only.

    Args:
        recording_or_packed: a recorded reference (the same on every process), whose members are drawn here by their numbers in the
            whole ensemble, so that any number of processes gives the same ensemble; or a packed network, whose members are taken.
        mesh: of ``torch.distributed``, with the axes ``"member"`` and perhaps ``"data"``.
        wrap: how processes along ``data`` share the work: ``"ddp"`` (DistributedDataParallel) or ``"fsdp"`` (fully_shard).
        seed: of the members' initial weights.
        device: where the members live; by default where the reference's or the packed network's tensors are.
        options: for a recording: ``alpha=``, ``num_estimators=`` (of the whole ensemble) and what else `packify.pack` takes.

    Raises:
        SpecError: the mesh has other axes or does not divide M; options that the first argument does not take.
        PackError: a node cannot be slimmed or packed.
    """
    if wrap not in ("ddp", "fsdp"):
        raise SpecError("wrap", found=repr(wrap), why="data parallelism is DDP or FSDP2", fix='pass wrap="ddp" or wrap="fsdp"')
    if isinstance(recording_or_packed, Recording):
        packed, place, spec = _built(recording_or_packed, mesh, seed, options)
    elif isinstance(recording_or_packed, PackedNetwork) and not options:
        spec = recording_or_packed.spec
        place = place_members(mesh, spec.num_estimators)
        packed = part(recording_or_packed, place.members)
    else:
        raise SpecError(
            "distribute",
            found=f"a {type(recording_or_packed).__name__} and {sorted(options) or 'no options'}",
            why="a recording is packed here, and takes options; a packed network is there already, and takes none",
            fix="packify.distribute(packify.record(model, x), mesh, alpha=2, num_estimators=4)",
        )
    if device is not None:
        packed = packed.to(device)
    if any(tensor.is_meta for tensor in packed.parameters()):
        raise SpecError(
            "distribute",
            found="a reference without data",
            why="initial weights follow those of the reference",
            fix="build the reference with data; only the members that a process holds are made of it there",
        )
    return DistributedEnsemble(packed, mesh, place, spec, wrap)


def _built(recording: Recording, mesh: DeviceMesh, seed: int, options: dict[str, Any]) -> tuple[PackedNetwork, Placement, Spec]:
    """The members of this process, and no others, drawn by their numbers in the whole ensemble."""
    if options.get("weights", "fresh") != "fresh":
        raise SpecError(
            "weights",
            found=repr(options["weights"]),
            why="members that inherit are ranked together",
            fix='packify.distribute(recording.pack(..., weights="inherit"), mesh)',
        )
    fields = {key: value for key, value in options.items() if key in Spec.__dataclass_fields__}
    try:
        spec = Spec(**fields)
    except TypeError as error:
        fix = "pass alpha= and num_estimators= of the whole ensemble"
        raise SpecError("distribute", found=str(error), why="an ensemble has an alpha and an M", fix=fix) from error
    place = place_members(mesh, spec.num_estimators)
    own = spec.with_members(place.count)
    others = {key: value for key, value in options.items() if key not in fields}
    first = None if others.get("member_seeds") == "same" else place.members.start
    packed = recording.pack(**{**own.to_dict(), **others}, seed=seed, members_of=(first or 0, spec.num_estimators))
    return packed, place, spec


def _shard(packed: PackedNetwork, mesh: DeviceMesh) -> None:
    for block in dict.fromkeys(_parts_to_shard(packed)):
        fully_shard(block, mesh=mesh)
    fully_shard(packed, mesh=mesh)
    register_fsdp_forward_method(packed, "members")


def _parts_to_shard(module: nn.Module) -> Iterator[nn.Module]:
    """The parts with parameters whose weights are gathered together: those that are called, and of a container its elements."""
    for child in module.children():
        if next(child.parameters(), None) is None:
            continue
        names = [name for name, _ in child.named_children()]
        if ports_of(child) and not (names and all(name.isdigit() for name in names)):
            yield child
        else:
            yield from _parts_to_shard(child)
