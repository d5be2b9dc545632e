"""`packify sweep`: every combination of some alphas, Ms and gammas, as a table, a CSV file or a picture."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from packify.cli.budget_command import ConventionOption, DtypeOption, reference
from packify.cli.console import err, out, print_json
from packify.cli.numbers import amount, times
from packify.cli.options import (
    DropOutput,
    FactoryArgs,
    FreeOutput,
    GroupsOption,
    HeadsOption,
    InChans,
    InputSize,
    Json,
    MinChannels,
    ModelArgument,
    NumClasses,
    RoundTo,
    output_choices,
)
from packify.cli.tables import size

if TYPE_CHECKING:
    from rich.table import Table

    from packify.budgets import Cost, Sweep

_COMBINATIONS, _FILES = "The combinations", "Files"
Number = TypeVar("Number", int, float)

Alphas = Annotated[str, typer.Option("--alpha", metavar="A,B,...", help="Expansion factors.", rich_help_panel=_COMBINATIONS)]
Counts = Annotated[
    str, typer.Option("--M", "--num-estimators", metavar="M,N,...", help="Numbers of members.", rich_help_panel=_COMBINATIONS)
]
Gammas = Annotated[str, typer.Option("--gamma", metavar="G,H,...", help="Subgroups inside each member.", rich_help_panel=_COMBINATIONS)]
Policies = Annotated[
    Literal["paper", "uniform", "both"], typer.Option("--gamma-policy", help="Which layers get gamma.", rich_help_panel=_COMBINATIONS)
]
Csv = Annotated[
    Path | None, typer.Option("--csv", metavar="FILE", help="Write the table as CSV.", show_default=False, rich_help_panel=_FILES)
]
Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot", metavar="FILE", help="Draw parameters against Mult-Adds (png, pdf, svg).", show_default=False, rich_help_panel=_FILES
    ),
]


def sweep(
    model: ModelArgument,
    alpha: Alphas,
    num_estimators: Counts,
    gamma: Gammas = "1",
    gamma_policy: Policies = "paper",
    min_channels_per_group: MinChannels = 64,
    round_to: RoundTo = 1,
    heads: HeadsOption = "scale",
    groups: GroupsOption = "keep",
    num_classes: NumClasses = None,
    in_chans: InChans = None,
    input_size: InputSize = None,
    arg: FactoryArgs = None,
    free_output: FreeOutput = None,
    drop_output: DropOutput = None,
    convention: ConventionOption = "macs",
    dtype: DtypeOption = None,
    csv: Csv = None,
    plot: Plot = None,
    json: Json = False,
) -> None:
    """Compare every combination of some alphas, Ms and gammas."""
    alphas, counts, gammas = listed("--alpha", alpha, float), listed("--M", num_estimators, int), listed("--gamma", gamma, int)
    with progress("importing torch", quiet=json) as report:
        import packify
        import packify.budgets.plots as plots

        if plot is not None:
            plots.check_plot(plot)
        policies: list[Literal["paper", "uniform"]] = ["paper", "uniform"] if gamma_policy == "both" else [gamma_policy]
        network, example = reference(model, num_classes, in_chans, input_size, arg)
        found = packify.sweep(
            network,
            example,
            outputs=output_choices(free_output, drop_output),
            alpha=alphas,
            num_estimators=counts,
            gamma=gammas,
            gamma_policies=policies,
            min_channels_per_group=min_channels_per_group,
            round_to=round_to,
            heads=heads,
            groups=groups,
            convention=convention,
            dtype=dtype,
            progress=lambda done, total: report(f"counting {model}", done, total),
        )
        if csv is not None:
            write(csv, found.to_csv())
        if plot is not None:
            plots.plot(found, plot, title=model)
    if json:
        print_json({"model": model, **found.to_dict()})
        return
    console = out()
    console.print(sweep_table(found))
    console.print(f"Mult-Adds of one sample, convention {convention}; ratios are to the reference.", style="dim")
    for path in (csv, plot):
        if path is not None:
            err().print(f"written: {path}", soft_wrap=True)


def sweep_table(found: Sweep) -> Table:
    """The reference, the Deep Ensembles and every configuration, a line each."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for label in ("alpha", "M", "gamma", "policy"):
        table.add_column(label, justify="left" if label == "policy" else "right")
    for label in ("parameters", "Mult-Adds", "weights", "inference peak", "for backward"):
        table.add_column(label, justify="right", no_wrap=True)
    table.add_row("reference", "1", "", "", *cells(found.reference, found.reference), style="bold")
    for count, cost in found.deep_ensembles.items():
        table.add_row("Deep Ensemble", str(count), "", "", *cells(cost, found.reference), style="dim")
    table.add_section()
    for one in found.budgets:
        spec = one.spec
        policy = spec.gamma_policy if spec.gamma > 1 else ""
        table.add_row(f"{spec.alpha:g}", str(spec.num_estimators), str(spec.gamma), policy, *cells(one.packed, found.reference))
    return table


def cells(cost: Cost, base: Cost) -> list[str]:
    """Parameters and Mult-Adds with their ratios, weights, and both kinds of activations."""
    return [
        f"{amount(cost.params)}  {times(cost.params, base.params):>6}",
        f"{amount(cost.mult_adds)}  {times(cost.mult_adds, base.mult_adds):>6}",
        size(cost.total_weight_bytes),
        size(cost.inference_bytes),
        size(cost.training_bytes),
    ]


def listed(option: str, text: str, kind: type[Number]) -> list[Number]:
    """``"1,2,4"`` as numbers.

    Raises:
        BudgetError: there is none, or something else is between the commas.
    """
    from packify.core.errors import BudgetError

    try:
        values = [kind(part) for part in text.split(",") if part.strip()]
    except ValueError:
        values = []
    if not values:
        what = {int: "whole numbers", float: "numbers"}[kind]
        raise BudgetError(option, found=repr(text), why=f"it takes {what} with commas between them", fix=f"pass for example {option} 1,2,4")
    return values


def write(path: Path, text: str) -> None:
    """Write a text file.

    Raises:
        BudgetError: the file cannot be written.
    """
    from packify.core.errors import BudgetError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BudgetError(str(path), found=str(error), why="the table cannot be written there", fix="choose another path") from error


@contextlib.contextmanager
def progress(doing: str, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on a terminal's stderr, moved by calling ``report(doing, done, total)``."""
    if quiet or not sys.stderr.isatty():
        with contextlib.redirect_stdout(sys.stderr):
            yield lambda *_: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err(), transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
        task = bar.add_task(doing, total=None)
        with contextlib.redirect_stdout(sys.stderr):
            yield lambda doing, done, total: bar.update(task, description=doing, completed=done, total=total)
