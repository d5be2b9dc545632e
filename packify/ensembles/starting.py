"""What members start from: fresh draws or a trained reference's weights, each with chance of its own or all with the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn

from packify.core.errors import SpecError
from packify.core.report import KindScheme
from packify.ensembles.inheriting import inherit_members
from packify.nn.initialisation import Init, check_init, initialise_members
from packify.nn.packed_network import PackedNetwork
from packify.nn.tree import is_constant
from packify.widths.slimming import Member

Weights = Literal["fresh", "inherit"]
MemberSeeds = Literal["own", "same"]


@dataclass(frozen=True)
class Start:
    """What members start from.

    Attributes:
        weights: ``"fresh"``, or ``"inherit"`` from the reference.
        seed: of all chance.
        member_seeds: ``"own"``, or ``"same"`` where all members start as member 0 does.
        init: how fresh members are drawn, see `packify.pack`.
        members_of: for a part of a larger ensemble, the number of its first member there, and the larger M.

    Raises:
        SpecError: a word is not known, or `init` is given for members that inherit.
    """

    weights: Weights
    seed: int
    member_seeds: MemberSeeds
    init: Init = "scheme"
    members_of: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        check_init(self.init)
        for name, value, known in (
            ("weights", self.weights, get_args(Weights)),
            ("member_seeds", self.member_seeds, get_args(MemberSeeds)),
        ):
            if value not in known:
                raise SpecError(
                    name, found=repr(value), why=f"the known ones are {', '.join(map(repr, known))}", fix=f'pass {name}="{known[0]}"'
                )
        if self.weights == "inherit" and self.init != "scheme":
            raise SpecError(
                "init",
                found=f"init={self.init!r:.80} and weights='inherit'",
                why="members that inherit are not drawn",
                fix="leave one of them out",
            )


_INHERITED = "the reference's, of each member's own channels"


def fill_members(packed: PackedNetwork, model: nn.Module, member: Member, rules: Mapping[Any, Any], start: Start) -> None:
    """Give the members of an unfilled packed network their first weights, and tell the report how. Without data there is nothing to do.

    Raises:
        SpecError: members are to inherit from a reference that has no data.
    """
    same = start.member_seeds == "same"
    if start.weights == "inherit":
        packed.report.initialised = inherit_members(packed, model, member, rules, start.seed, same=same)
        packed.report.schemes = [KindScheme("parameters", _INHERITED, len(packed.report.initialised))]
        return
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        return
    shapes = {name: tuple(tensor.shape) for name, tensor in (*member.root.named_parameters(), *member.root.named_buffers())}
    layers, follow = packed.report.layers, packed.spec.constants != "keep"
    drawn = initialise_members(packed, model, shapes, packed.num_estimators, start.seed, layers, start.init, follow, start.members_of)
    packed.report.initialised, packed.report.schemes = drawn.schemes, drawn.kinds
    packed.report.notes += drawn.notes
    packed.report.constants += drawn.tables
    if same:
        repeat_first_member(packed)


def repeat_first_member(packed: PackedNetwork) -> None:
    """Every member's tensors as member 0's."""
    with torch.no_grad():
        for name, tensor in (*packed.named_parameters(), *packed.named_buffers()):
            if tensor.dim() and not is_constant(name):
                first, *others = tensor.chunk(packed.num_estimators)
                for other in others:
                    other.copy_(first)
