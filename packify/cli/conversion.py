"""The report of a conversion, as a person enjoys reading it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packify.cli.numbers import span
from packify.cli.staging import stages
from packify.cli.tables import networks_table, notes_text, size

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from packify.budgets import Budget
    from packify.core.report import Note, Report
    from packify.laws.verification import Verification

_AVERAGES = {
    "probs": "log of the mean softmax",
    "sigmoid": "logit of the mean sigmoid",
    "mean": "the mean over members",
    "gaussian": "mean and variance of the mixture",
    "vote": "what most members say",
    "none": "all members",
}


@dataclass(frozen=True)
class Conversion:
    """Everything that `packify convert` found out.

    Attributes:
        model: as the user named it.
        input_shapes: what the network was recorded with.
        budget: the networks side by side.
        report: widths, pins and the rest.
        verification: the measured laws; None with --no-verify.
        artefact: where it was written.
        seconds: by step.
    """

    model: str
    input_shapes: str
    budget: Budget
    report: Report
    verification: Verification | None
    artefact: Path
    seconds: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The JSON document."""
        costs = self.budget.to_dict()
        return {
            "model": self.model,
            "spec": self.report.spec.to_dict(),
            "networks": {name: costs[name] for name in ("reference", "member", "packed", "deep_ensemble")},
            "convention": self.budget.convention,
            "report": self.report.to_dict(),
            "verification": None if self.verification is None else self.verification.to_dict(),
            "artefact": str(self.artefact),
            "seconds": self.seconds,
        }


def show(console: Console, found: Conversion) -> None:
    """The whole report."""
    from rich.text import Text

    spec = found.report.spec
    title = Text("\n").append(found.model, style="bold")
    title.append(f" as Packed-Ensembles (alpha {spec.alpha:g}, M {spec.num_estimators}, gamma {spec.gamma})")
    console.print(title)
    console.print(
        Text(f"input {found.input_shapes}, width ratio alpha/M = {float(spec.ratio):.3g}, gamma policy {spec.gamma_policy}", style="dim")
    )
    console.print(networks_table(found.budget))
    console.print(stages_table(found.report))
    for title_text, notes in sections(found.report):
        console.print(notes_text(title_text, notes))
    console.print(schemes_text(found.report))
    if found.verification is None:
        console.print(Text("The laws were not checked (--no-verify).", style="yellow"))
    else:
        console.print(Text("✓ ", style="green").append(str(found.verification), style="default"))
    total = sum(found.seconds.values())
    parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in found.seconds.items())
    console.print(
        Text("✓ ", style="green")
        .append("written to ")
        .append(f"{found.artefact}/", style="bold")
        .append(f"  ({total:.1f} s: {parts})", style="dim")
    )


def stages_table(report: Report) -> Table:
    """Widths and gamma, stage by stage."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("stage")
    for label in ("layers", "reference widths", "member widths", "ratio", "gamma"):
        table.add_column(label, justify="right")
    for stage in stages(report.layers):
        gammas = ", ".join(
            str(gamma) if len(stage.gammas) == 1 else f"{gamma} ({count} of {stage.layers})" for gamma, count in stage.gammas
        )
        table.add_row(
            stage.name, str(stage.layers), span(list(stage.reference_widths)), span(list(stage.member_widths)), f"{stage.ratio:.3g}", gammas
        )
    return table


def sections(report: Report) -> list[tuple[str, Sequence[Note]]]:
    """The notes of a report under their headings, empty ones left out."""
    named = (
        ("pinned widths", report.pins),
        ("rounded widths", report.rounded),
        ("lowered gamma", report.lowered),
        ("heads", report.heads),
        ("groups", report.groups),
        ("numbers of the code", report.constants),
        (f"relayouts, {size(report.relayout_bytes)} a sample", report.relayouts),
        ("run once per member", report.fallbacks),
        ("averages", report.averaging),
        ("memory format", report.formats),
        ("notes", report.notes),
    )
    return [(title, notes) for title, notes in named if notes]


def schemes_text(report: Report) -> Text:
    """How outputs are averaged, and how the members' weights were drawn: a line per kind of layer."""
    from rich.text import Text

    averages = ", ".join(f"{name or 'the output'}: {_AVERAGES.get(how, how)}" for name, how in report.averages.items())
    text = Text()
    if averages:
        text.append("eval mode returns: ", style="bold").append(f"{averages}\n")
    if report.schemes:
        text.append("initial weights\n", style="bold")
    for kind in report.schemes[:_SHOWN_KINDS]:
        text.append(f"  {kind}\n")
    if len(report.schemes) > _SHOWN_KINDS:
        text.append(f"  and {len(report.schemes) - _SHOWN_KINDS} more kinds: --json lists them all\n", style="dim")
    return text


_SHOWN_KINDS = 12
