"""The options of the paper's other ensembles, and the conversion of a network by one of them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from packify.cli.console import out as stdout
from packify.cli.console import print_json, steps
from packify.cli.members import paths, require_whole
from packify.cli.numbers import amount, times
from packify.cli.tables import notes_text, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from packify.budgets import Cost
    from packify.core.method_specs import MethodSpec
    from packify.ensembles.methods.costs import MethodBudgets

_METHOD = "The method"
Method = Literal["packed", "deep", "batch-ensemble", "mimo", "masksembles"]

MethodOption = Annotated[
    Method,
    typer.Option(
        "--method",
        help="Packed-Ensembles, a Deep Ensemble (alpha = M), or members that share weights: BatchEnsemble, MIMO, Masksembles.",
        rich_help_panel=_METHOD,
    ),
]
BudgetMethod = Annotated[
    Literal["packed", "all"],
    typer.Option("--method", help="Count Packed-Ensembles, or all of the paper's ensembles side by side.", rich_help_panel=_METHOD),
]
AlphaOrPaper = Annotated[
    float | None,
    typer.Option(
        "--alpha",
        help="Expansion factor: a member is alpha / M as wide as the reference.",
        show_default="2 with --method all",
        rich_help_panel="The ensemble",
    ),
]
CountOrPaper = Annotated[
    int | None,
    typer.Option("--M", "--num-estimators", help="Number of members.", show_default="4 with --method all", rich_help_panel="The ensemble"),
]
Scale = Annotated[
    float | None, typer.Option("--scale", help="Masksembles: 1 masks nothing, 6 the most.", show_default="2", rich_help_panel=_METHOD)
]
Rho = Annotated[
    float | None,
    typer.Option("--rho", help="MIMO: share of training rows that all members read.", show_default="0.5", rich_help_panel=_METHOD),
]
Repetitions = Annotated[
    int | None,
    typer.Option(
        "--batch-repetitions", help="MIMO: how often a training batch holds each sample.", show_default="4", rich_help_panel=_METHOD
    ),
]
Norms = Annotated[
    Literal["shared", "member"] | None,
    typer.Option("--norms", help="BatchEnsemble: norms of all members, or one each.", show_default="shared", rich_help_panel=_METHOD),
]
Layers = Annotated[
    list[str] | None,
    typer.Option(
        "--layers",
        metavar="PATTERN",
        help="BatchEnsemble, Masksembles: only layers of such names, or with a ! all others; may be given again.",
        show_default=False,
        rich_help_panel=_METHOD,
    ),
]


PACKED_ONLY = tuple(
    "alpha gamma gamma_policy min_channels_per_group round_to unused heads groups members weights member_seeds init constants".split()
)
"""Options of `packify convert` that methods whose members share weights do not have."""


def given(context: typer.Context, *names: str) -> list[str]:
    """Those of the options that the command line, or the environment, gives."""
    return [name for name in names if getattr(context.get_parameter_source(name), "name", "DEFAULT") != "DEFAULT"]


def method_spec(method: Method, num_estimators: int | None, seed: int, others: Sequence[str], **settings: Any) -> MethodSpec | None:
    """The settings of a method whose members share weights; None for Packed-Ensembles and Deep Ensembles.

    Args:
        method, num_estimators, seed: as they are given.
        others: options that are given and that those methods do not have.
        settings: of the methods whose members share weights; None where they are not given.

    Raises:
        SpecError: a setting is out of range, or is one of another method.
    """
    from dataclasses import fields

    from packify.core.errors import SpecError
    from packify.core.method_specs import METHOD_SPECS

    kind = METHOD_SPECS.get(method)
    known = set() if kind is None else {field.name for field in fields(kind)}
    own = {name: value for name, value in settings.items() if value is not None}
    strange = [name for name in own if name not in known] + ([] if kind is None else [*others])
    if strange:
        raise SpecError(
            f"--{strange[0].replace('_', '-')}",
            found=f"--method {method}",
            why="it is no setting of that method",
            fix=f"leave it out, or choose another method: {', '.join(METHOD_SPECS)}",
        )
    if kind is None:
        return None
    own |= {"seed": seed} if "seed" in known else {}
    return kind(num_estimators=4 if num_estimators is None else num_estimators, **own)


def deep_numbers(alpha: float | None, num_estimators: int | None, gamma: int, files: str | None) -> tuple[float, int]:
    """Alpha and M of a Deep Ensemble: whole networks side by side, as many as there are checkpoints, if there are any.

    Raises:
        SpecError: other numbers are given.
    """
    from packify.core.method_specs import several

    if files is not None and num_estimators is None:
        num_estimators = len(paths(files))
    members = several(4 if num_estimators is None else num_estimators)
    require_whole(members, f"a Deep Ensemble of {members}", alpha, members, gamma)
    return members, members


@dataclass(frozen=True)
class _Asked:
    """What is said of the reference and of the result."""

    model: str
    wanted: dict[str, Any]
    pretrained: bool
    outputs: dict[str, str]
    seed: int
    inputs: str | None
    average: str | None
    no_verify: bool
    out: Path | None
    force: bool
    json: bool
    quiet: bool


def convert_by(spec: MethodSpec, **asked: Any) -> None:
    """Convert a network by a method whose members share weights, and write it as an artefact."""
    said = _Asked(**asked)
    with steps(5, said.quiet or said.json) as step:
        with step("import", "importing torch and its libraries"):
            import torch

            import packify
            from packify import artefact, sources

            kind, plain = sources.parse_name(said.model)
            sources.import_library(kind)
        target = artefact.check_target(said.out or Path(f"{sources.label(kind, plain)}-{spec.label}"), said.force)
        with step("build", f"building {said.model}"), torch.random.fork_rng(devices=[]):
            torch.manual_seed(said.seed)
            reference = sources.resolve(said.model, **said.wanted, pretrained=said.pretrained)
            example = reference.example()
        with step("pack", f"converting {said.model}"), warnings.catch_warnings():
            warnings.simplefilter("ignore", packify.AverageWarning)  # the report says it
            recording = packify.record(reference.model, example, outputs=said.outputs)
            network = recording.method(spec, seed=said.seed, inputs=said.inputs, average=said.average)
        with step("verify", "checking the laws"):
            verification = None if said.no_verify else packify.verify(network)
        with step("write", f"writing {target}"):
            written = artefact.save(network.eval(), target, source=reference.source, force=said.force)
    if said.json:
        laws = None if verification is None else verification.to_dict()
        document = {"model": said.model, "method": spec.method, "spec": spec.to_dict(), "report": network.report.to_dict()}
        print_json({**document, "verification": laws, "artefact": str(written), "seconds": step.seconds})
    elif said.quiet:
        stdout().print(str(written), soft_wrap=True)
    else:
        _show(stdout(), said.model, network, verification, written)


def _show(console: Console, model: str, network: Any, verification: Any, written: Path) -> None:
    from rich.text import Text

    from packify.core.method_specs import METHOD_TITLES

    report, spec = network.report, network.spec
    console.print(Text("\n").append(model, style="bold").append(f" as {METHOD_TITLES[spec.method][0]} (M {spec.num_estimators})"))
    console.print(Text(", ".join(f"{name} {value}" for name, value in spec.to_dict().items() if value not in ([], "")), style="dim"))
    ratio = report.params / report.reference_params if report.reference_params else 1.0
    console.print(f"parameters: reference {report.reference_params:,}, ensemble {report.params:,} ({ratio:.3f} of the reference)")
    if report.member_params:
        console.print(f"members alone: {', '.join(f'{count:,}' for count in report.member_params)}")
    console.print(f"layers with something of the members' own: {len(report.layers)}\n")
    for title, notes in report.sections():
        console.print(notes_text(title, notes))
    checked = "The laws were not checked (--no-verify)." if verification is None else str(verification)
    console.print(Text("✓ ", style="green").append(checked, style="default"))
    console.print(Text("✓ ", style="green").append("written to ").append(f"{written}/", style="bold"))


def methods_table(found: MethodBudgets) -> Table:
    """Every ensemble on a line, with ratios to the reference."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for label in ("parameters", "Mult-Adds", "activations, inference", "kept for backward"):
        table.add_column(label, justify="right", no_wrap=True)
    reference = found.budget.reference
    for name, cost in found.networks().items():
        table.add_row(_LABELS[name], *_cells(cost, reference))
    for name, why in found.refused.items():
        table.add_row(_LABELS[name.replace("-", "_")], f"cannot be: {why}", "", "", "", style="dim")
    return table


_LABELS = {
    "reference": "Single",
    "batch_ensemble": "BatchEnsemble",
    "mimo": "MIMO",
    "masksembles": "Masksembles",
    "packed": "Packed-Ensembles",
    "deep_ensemble": "Deep Ensembles",
}


def _cells(cost: Cost, reference: Cost) -> list[str]:
    counted = [(cost.params, reference.params), (cost.mult_adds, reference.mult_adds)]
    kept = [(cost.inference_bytes, reference.inference_bytes), (cost.training_bytes, reference.training_bytes)]
    return [f"{amount(value)}  {times(value, one):>6}" for value, one in counted] + [
        f"{size(value)}  {times(value, one):>6}" for value, one in kept
    ]
