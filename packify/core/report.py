"""What packify did to a network and why, as plain dataclasses."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from packify.core.spec import Spec


@dataclass(frozen=True)
class Note:
    """One thing that a user should know: at which node, what, and why."""

    node: str
    source: str
    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.node}: {self.what} ({self.why})"


@dataclass(frozen=True)
class LayerWidth:
    """A layer with weights: its widths in channels or features, its groups, and the gamma it got.

    Attributes:
        parts: outputs of each part of one group that gamma cuts by itself, e.g. q, k and v; none where it cuts all of them as one.
    """

    name: str
    kind: str
    reference_in: int
    reference_out: int
    member_in: int
    member_out: int
    groups: int
    gamma: int
    gamma_wanted: int
    note: str = ""
    parts: tuple[int, ...] = ()


@dataclass(frozen=True)
class KindScheme:
    """How the parameters of one kind were drawn.

    Attributes:
        kind: e.g. ``"Conv2d weight"``.
        scheme: of most of them.
        count: of all of them.
        odd: the others by name, each with its own scheme.
    """

    kind: str
    scheme: str
    count: int
    odd: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        names = list(self.odd)
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        but = "; but " + ", ".join(f"{name}: {self.odd[name]}" for name in names[:_NAMED]) + more if names else ""
        return f"{self.kind} ({self.count}): {self.scheme}{but}"


_NAMED = 3


@dataclass
class Report:
    """The outcome of one conversion.

    Attributes:
        spec: alpha, M, gamma and the policies.
        layers: every layer with weights.
        pins: widths that had to keep the reference's size.
        rounded: widths that are not alpha / M times the reference's exactly.
        lowered: layers whose gamma is smaller than asked.
        heads: what was done with the heads of attention: fewer of the same size, or as many smaller ones.
        groups: the same of grouped convs, and where their groups become small.
        constants: numbers of the code that were computed from a width and follow it, and those that were not taken to be.
        notes: what else should be known: hooks, leaves and rules without effect, parameters that are left out.
        formats: the memory format of the weights, where it is not torch's own.
        relayouts: places where a packed tensor is copied to carry its members on another axis.
        relayout_bytes: bytes that these copy for one sample in one forward pass, in the mode that copies most.
        fallbacks: operators and modules that run once per member.
        averages: per output, how the members are averaged.
        averaging: what speaks for these averages, or that nothing does.
        initialised: per parameter, the scheme it was drawn by.
        schemes: the same by kind of layer, in a few lines.
        reference_params, member_params, packed_params: number of parameters.
    """

    spec: Spec
    layers: list[LayerWidth] = field(default_factory=list)
    pins: list[Note] = field(default_factory=list)
    rounded: list[Note] = field(default_factory=list)
    lowered: list[Note] = field(default_factory=list)
    heads: list[Note] = field(default_factory=list)
    groups: list[Note] = field(default_factory=list)
    constants: list[Note] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    formats: list[Note] = field(default_factory=list)
    relayouts: list[Note] = field(default_factory=list)
    relayout_bytes: int = 0
    fallbacks: list[Note] = field(default_factory=list)
    averages: dict[str, str] = field(default_factory=dict)
    averaging: list[Note] = field(default_factory=list)
    initialised: dict[str, str] = field(default_factory=dict)
    schemes: list[KindScheme] = field(default_factory=list)
    reference_params: int = 0
    member_params: int = 0
    packed_params: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        spec = self.spec
        lines = [
            f"Packed-Ensemble PE-({spec.alpha:g}, {spec.num_estimators}, {spec.gamma}), gamma policy {spec.gamma_policy!r}",
            f"parameters: reference {self.reference_params:,}, member {self.member_params:,}, packed {self.packed_params:,}"
            + (f" ({self.packed_params / self.reference_params:.3f} of the reference)" if self.reference_params else ""),
            f"layers: {len(self.layers)}; gamma > 1 on {sum(layer.gamma > 1 for layer in self.layers)}"
            + (f", on {parted} of them in each of several parts" if (parted := sum(bool(layer.parts) for layer in self.layers)) else ""),
        ]
        for title, notes in (
            ("pinned", self.pins),
            ("rounded", self.rounded),
            ("gamma lowered", self.lowered),
            ("heads", self.heads),
            ("groups", self.groups),
            ("numbers of the code", self.constants),
            (f"relayouts, {self.relayout_bytes:,} bytes a sample", self.relayouts),
            ("run once per member", self.fallbacks),
            ("averages", self.averaging),
            ("memory format", self.formats),
            ("notes", self.notes),
        ):
            if notes:
                lines.append(f"{title}: {len(notes)}")
                lines += [f"  {note}" for note in notes[:8]]
                lines += [f"  ... and {len(notes) - 8} more"] if len(notes) > 8 else []
        lines += ["initial weights:", *(f"  {kind}" for kind in self.schemes)] if self.schemes else []
        lines += [f"average of {name or 'the output'}: {how}" for name, how in self.averages.items()]
        return "\n".join(lines)
