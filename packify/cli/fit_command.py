"""`packify fit`: the configurations that meet limits, widest members first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from packify.cli.budget_command import ConventionOption, DtypeOption, reference
from packify.cli.console import out, print_json
from packify.cli.numbers import amount
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
from packify.cli.sweep_command import cells, listed, progress
from packify.cli.tables import size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from packify.budgets import Candidate, Cost, Fit, Limit

_LIMITS, _SEARCH = "Limits", "The search"

MaxParams = Annotated[
    str | None, typer.Option("--max-params", help="1.0x of the reference, or 12M.", show_default=False, rich_help_panel=_LIMITS)
]
MaxMultAdds = Annotated[
    str | None, typer.Option("--max-mult-adds", help="1.0x of the reference, or 2G.", show_default=False, rich_help_panel=_LIMITS)
]
MaxMemory = Annotated[
    str | None,
    typer.Option("--max-memory", help="Inference: weights and activations, 1.0x or 8GB.", show_default=False, rich_help_panel=_LIMITS),
]
MaxTrainingMemory = Annotated[
    str | None,
    typer.Option(
        "--max-training-memory",
        help="Training with Adam: weights, gradients, moments and activations, 1.0x or 24GB.",
        show_default=False,
        rich_help_panel=_LIMITS,
    ),
]
BatchSize = Annotated[int, typer.Option("--batch-size", help="The batch that memory is counted for.", min=1, rich_help_panel=_LIMITS)]
Counts = Annotated[
    str, typer.Option("--M", "--num-estimators", metavar="M,N,...", help="Numbers of members to try.", rich_help_panel=_SEARCH)
]
Gammas = Annotated[str, typer.Option("--gamma", metavar="G,H,...", help="Gammas to try.", rich_help_panel=_SEARCH)]
Policies = Annotated[
    Literal["paper", "uniform", "both"], typer.Option("--gamma-policy", help="Which layers get gamma.", rich_help_panel=_SEARCH)
]
MinAlpha = Annotated[float, typer.Option("--min-alpha", help="The smallest alpha to try.", rich_help_panel=_SEARCH)]
MaxAlpha = Annotated[float | None, typer.Option("--max-alpha", help="The largest alpha to try.", show_default="M", rich_help_panel=_SEARCH)]
Step = Annotated[float, typer.Option("--step", help="Alphas are multiples of this.", rich_help_panel=_SEARCH)]
Best = Annotated[int, typer.Option("--best", help="How many to print.", min=1, rich_help_panel=_SEARCH)]


def fit(
    model: ModelArgument,
    max_params: MaxParams = None,
    max_mult_adds: MaxMultAdds = None,
    max_memory: MaxMemory = None,
    max_training_memory: MaxTrainingMemory = None,
    batch_size: BatchSize = 1,
    num_estimators: Counts = "2,4,8",
    gamma: Gammas = "1,2,4",
    gamma_policy: Policies = "both",
    min_alpha: MinAlpha = 1.0,
    max_alpha: MaxAlpha = None,
    step: Step = 0.125,
    best: Best = 5,
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
    json: Json = False,
) -> None:
    """Search alpha, M and gamma for the widest members that meet limits."""
    counts, gammas = listed("--M", num_estimators, int), listed("--gamma", gamma, int)
    with progress("importing torch", quiet=json) as report:
        import packify

        policies: list[Literal["paper", "uniform"]] = ["paper", "uniform"] if gamma_policy == "both" else [gamma_policy]
        network, example = reference(model, num_classes, in_chans, input_size, arg)
        found = packify.fit(
            network,
            example,
            outputs=output_choices(free_output, drop_output),
            max_params=max_params,
            max_mult_adds=max_mult_adds,
            max_memory=max_memory,
            max_training_memory=max_training_memory,
            batch_size=batch_size,
            num_estimators=counts,
            gamma=gammas,
            gamma_policies=policies,
            min_alpha=min_alpha,
            max_alpha=max_alpha,
            step=step,
            min_channels_per_group=min_channels_per_group,
            round_to=round_to,
            heads=heads,
            groups=groups,
            convention=convention,
            dtype=dtype,
            progress=lambda done, total: report(f"searching {model}", done, total),
        )
    if json:
        print_json({"model": model, **found.to_dict()})
    else:
        show(found, best)
    if not found.found:
        raise typer.Exit(1)


def show(found: Fit, best: int) -> None:
    """The limits, the best few, and the Pareto front."""
    console = out()
    console.print("\nlimits: " + ", ".join(f"{words(limit.quantity)} at most {limit.text} ({bound(limit)})" for limit in found.limits))
    for reason in found.skipped:
        console.print(f"not possible: {reason}", style="dim")
    if found.smallest is not None:
        spec = found.smallest.spec
        console.print(f"Nothing fits. The limit that binds: {' and '.join(map(words, found.binding))}.", style="bold")
        console.print(
            f"Closest: alpha {spec.alpha:g}, M {spec.num_estimators}, gamma {spec.gamma} ({spec.gamma_policy}) with "
            f"{amount(found.smallest.packed.params)} parameters and {amount(found.smallest.packed.mult_adds)} Mult-Adds."
        )
        return
    console.print(f"\nWidest members first ({min(best, len(found.found))} of {len(found.found)}):", style="bold")
    console.print(candidates_table(found, found.found[:best]))
    others = [candidate for candidate in found.front if candidate not in found.found[:best]]
    if others:
        console.print("Also on the Pareto front (member width, M, parameters, Mult-Adds):", style="bold")
        console.print(candidates_table(found, others))
    console.print(
        "width: of a member, alpha / M. * on the Pareto front: no other one found is as wide, with as many members, for less.", style="dim"
    )


def candidates_table(found: Fit, candidates: Sequence[Candidate]) -> Table:
    """Configurations, a line each."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for label in ("", "alpha", "M", "gamma"):
        table.add_column(label, justify="right", no_wrap=True)
    table.add_column("policy", no_wrap=True)
    for label in ("width", "parameters", "Mult-Adds", "weights"):
        table.add_column(label, justify="right", no_wrap=True)
    memory = [limit.quantity for limit in found.limits if "memory" in limit.quantity]
    for quantity in memory:
        table.add_column(words(quantity), justify="right", no_wrap=True)
    table.add_column("bound by")
    for candidate in candidates:
        one = candidate.budget
        spec = one.spec
        table.add_row(
            "*" if candidate in found.front else "",
            f"{spec.alpha:g}",
            str(spec.num_estimators),
            str(spec.gamma),
            spec.gamma_policy if spec.gamma > 1 else "",
            f"{float(spec.ratio):.3f}",
            *cells(one.packed, found.reference)[:3],
            *(size(measured(one.packed, quantity, found.batch_size)) for quantity in memory),
            ", ".join(map(words, candidate.binding)),
        )
    return table


def measured(cost: Cost, quantity: str, batch_size: int) -> int:
    """Bytes in inference or in training."""
    return cost.memory_bytes(batch_size) if quantity == "memory" else cost.training_memory_bytes(batch_size)


def words(quantity: str) -> str:
    """A quantity as a person says it."""
    return {"params": "parameters", "mult_adds": "Mult-Adds", "max_alpha": "largest alpha"}.get(quantity, quantity.replace("_", " "))


def bound(limit: Limit) -> str:
    """A limit in absolute numbers."""
    return size(int(limit.most)) if "memory" in limit.quantity else amount(int(limit.most))
