"""What a method that shares weights did to a network, and why, as plain dataclasses."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from packify.core.method_specs import MethodSpec
from packify.core.report import Note


@dataclass(frozen=True)
class MethodLayer:
    """A layer that the method treats.

    Attributes:
        name: qualified name of the module, or of the node.
        kind: the operator.
        width_in, width_out: its channels or features in the reference.
        what: what members have of their own there, e.g. ``"r, s, bias"``.
        params: parameters that this adds to the reference's.
        kept: of a masked layer, the input channels that each member reads, the same number for all; else None.
    """

    name: str
    kind: str
    width_in: int
    width_out: int
    what: str
    params: int
    kept: int | None = None


@dataclass
class MethodReport:
    """The outcome of one conversion.

    Attributes:
        spec: the method's settings.
        layers: every layer that the method treats.
        left_out: layers that it leaves as they are, and why.
        coupled: shared norms whose statistics in training mode are those of all members' activations.
        notes, relayouts, relayout_bytes, fallbacks, averages, averaging: as in `Report`.
        holds, does_not_hold: the laws of the method, in words.
        reference_params, params: parameters of the reference and of the ensemble.
        member_params: parameters of each member alone; empty where members are not separable.
    """

    spec: MethodSpec
    layers: list[MethodLayer] = field(default_factory=list)
    left_out: list[Note] = field(default_factory=list)
    coupled: list[str] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    relayouts: list[Note] = field(default_factory=list)
    relayout_bytes: int = 0
    fallbacks: list[Note] = field(default_factory=list)
    averages: dict[str, str] = field(default_factory=dict)
    averaging: list[Note] = field(default_factory=list)
    holds: tuple[str, ...] = ()
    does_not_hold: tuple[str, ...] = ()
    reference_params: int = 0
    params: int = 0
    member_params: list[int] = field(default_factory=list)

    @property
    def packed_params(self) -> int:
        """Parameters of the ensemble, by the name that a packed network's report has for them."""
        return self.params

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return dataclasses.asdict(self) | {"spec": self.spec.to_dict()}

    def sections(self) -> list[tuple[str, list[Note]]]:
        """The notes under their headings, empty ones left out."""
        named = (
            ("layers left as they are", self.left_out),
            ("run once per member", self.fallbacks),
            (f"relayouts, {self.relayout_bytes:,} bytes a sample", self.relayouts),
            ("averages", self.averaging),
            ("notes", self.notes),
        )
        return [(title, notes) for title, notes in named if notes]

    def __str__(self) -> str:
        settings = ", ".join(
            f"{name} {value}" for name, value in self.spec.to_dict().items() if name != "method" and value not in ([], None)
        )
        ratio = f" ({self.params / self.reference_params:.3f} of the reference)" if self.reference_params else ""
        lines = [
            f"{self.spec.method}: {settings}",
            f"parameters: reference {self.reference_params:,}, ensemble {self.params:,}{ratio}",
            *([f"members alone: {', '.join(f'{count:,}' for count in self.member_params)}"] if self.member_params else []),
            f"layers treated: {len(self.layers)}",
        ]
        for title, notes in self.sections():
            lines += [f"{title}: {len(notes)}", *(f"  {note}" for note in notes[:8])]
            lines += [f"  ... and {len(notes) - 8} more"] if len(notes) > 8 else []
        lines += [f"holds: {law}" for law in self.holds]
        lines += [f"does not hold: {law}" for law in self.does_not_hold]
        lines += [f"average of {name or 'the output'}: {how}" for name, how in self.averages.items()]
        return "\n".join(lines)
