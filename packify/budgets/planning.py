"""Budgets of one recorded network under many configurations: it is measured once, and slimmed once per member."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from packify.budgets.cost import CONVENTIONS, Budget, Convention, Cost, LayerCost
from packify.budgets.effects import Effects
from packify.budgets.measuring import attributes_of, network
from packify.budgets.tallies import Tally, tally
from packify.capture.graphs import RecordedGraphs
from packify.core.collecting import uncollected
from packify.core.errors import BudgetError
from packify.core.report import LayerWidth, Note
from packify.core.spec import Spec
from packify.widths.gamma import places
from packify.widths.slimming import Member, Slimmer


@dataclass(frozen=True)
class _Counted:
    """What is kept of a member: its figures, and what its report says."""

    tally: Tally
    layers: Sequence[LayerWidth]
    pins: Sequence[Note]
    rounded: Sequence[Note]
    lowered: Sequence[Note]


class Planner:
    """The budget of any configuration of one recorded network.

    Args:
        recorded: the reference's graphs.
        slimmer: gives its members.
        convention: ``"macs"`` or ``"torchinfo"``.
        dtype: floating type to give bytes for; by default, the model's own.

    Raises:
        BudgetError: the convention or dtype is unknown.
    """

    def __init__(
        self, recorded: RecordedGraphs, slimmer: Slimmer, *, convention: Convention = "macs", dtype: torch.dtype | str | None = None
    ) -> None:
        if convention not in CONVENTIONS:
            known = " or ".join(CONVENTIONS)
            raise BudgetError("convention", found=repr(convention), why=f"Mult-Adds are counted by {known}", fix='pass convention="macs"')
        self.convention = convention
        self.dtype = floating_dtype(dtype)
        self.recorded, self._slimmer = recorded, slimmer
        self._effects = Effects()
        self.reference = self._tally(self.recorded)
        self._members: dict[Hashable, _Counted] = {}
        self._modules = [name for name, _ in recorded.root.named_modules()]
        self._places = {
            node.meta["path"] or node.name: place for node, place in places(self.recorded.graphs["eval"], slimmer.rules).items()
        }

    def budget(self, spec: Spec, *, training: bool = True) -> Budget:
        """The budget of one configuration; a search that needs no training memory leaves that out and is faster."""
        member = self._member(spec, training)
        count = spec.num_estimators
        packed = member.tally.packed(count)
        own = next((p.dtype for p in self.recorded.root.parameters() if p.is_floating_point()), torch.float32)
        return Budget(
            spec=spec,
            convention=self.convention,
            dtype=str(self.dtype or own).removeprefix("torch."),
            reference=self.reference.cost,
            member=member.tally.cost,
            packed=packed,
            deep_ensemble=self.reference.ensemble(count),
            layers=tuple(self._layers(member, count, packed.mult_adds)),
            pins=tuple(member.pins),
            rounded=tuple(member.rounded),
            lowered=tuple(member.lowered),
        )

    def least(self, spec: Spec, *, training: bool = True) -> Cost:
        """A bound from below on what a configuration costs packed, without slimming it: every layer that gamma may divide is divided."""
        plain = self._member(replace(spec, gamma=1), training).tally
        paper = spec.gamma_policy == "paper"
        divided = [path for path, place in self._places.items() if not (place.wants if paper else place.first or place.last)]

        def bound(total: int, by_module: Mapping[str, int]) -> int:
            return total - sum(by_module.get(path, 0) for path in divided) * (spec.gamma - 1) // spec.gamma

        one = plain.cost
        params = bound(one.params, plain.params)
        share = params / one.params if one.params else 1.0
        member = replace(
            one,
            params=params,
            mult_adds=bound(one.mult_adds, plain.mult_adds),
            weight_bytes={dtype: int(size * share) for dtype, size in one.weight_bytes.items()},
            param_bytes=int(one.param_bytes * share),
        )
        return replace(plain, cost=member).packed(spec.num_estimators)

    def _tally(self, source: RecordedGraphs | Member, training: bool = True) -> Tally:
        batched = self.recorded.batch is not None
        attributes = attributes_of(source.root, source.constants)
        evaluation, kept = (
            network(source.root, source.graphs[mode], source.constants, batched=batched, attributes=attributes, rules=self._slimmer.rules)
            for mode in ("eval", "train")
        )
        return tally(evaluation, kept if training else None, self.convention, self.dtype, self._effects)

    def _member(self, spec: Spec, training: bool) -> _Counted:
        """The member of a configuration; configurations that have theirs in common share its figures."""
        key = spec.of_one_member()
        known = self._members.get(key)
        if known is None or (training and not known.tally.trained):
            with uncollected():
                member = self._slimmer.member(spec)
                known = _Counted(self._tally(member, training), member.layers, member.pins, member.rounded, member.lowered)
            self._members[key] = known
        return known

    def _layers(self, member: _Counted, count: int, total: int) -> list[LayerCost]:
        widths, counted = {layer.name: layer for layer in member.layers}, member.tally
        costly = counted.params.keys() | counted.mult_adds.keys() | self.reference.params.keys()
        names = [name for name in self._modules if name in costly]
        names += [name for name in counted.mult_adds if name not in names]
        rows = []
        for name in names:
            width = widths.get(name)
            mult_adds = count * counted.mult_adds.get(name, 0)
            rows.append(
                LayerCost(
                    name=name,
                    kind=(counted.kinds if name in counted.params or mult_adds else self.reference.kinds).get(name, ""),
                    reference_width=width.reference_out if width else None,
                    member_width=width.member_out if width else None,
                    width=count * width.member_out if width else None,
                    groups=(1 if self._reads_input(name) else count) * width.groups * width.gamma if width else None,
                    gamma=width.gamma if width else None,
                    params=count * counted.params.get(name, 0),
                    mult_adds=mult_adds,
                    share=mult_adds / total if total else 0.0,
                    reference_params=self.reference.params.get(name, 0),
                    reference_mult_adds=self.reference.mult_adds.get(name, 0),
                )
            )
        return rows

    def _reads_input(self, name: str) -> bool:
        place = self._places.get(name)
        return place is not None and place.first


def floating_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """A floating dtype from its name; None stays None.

    Raises:
        BudgetError: there is no floating type of that name.
    """
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if dtype is None or (isinstance(found, torch.dtype) and found.is_floating_point):
        return found
    raise BudgetError(
        "dtype", found=repr(dtype), why="weights and activations are floating numbers", fix="pass float32, bfloat16, float16 or float64"
    )
