"""`packify budget`: what a configuration costs, before anything is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from packify.cli.console import out, print_json, steps
from packify.cli.numbers import amount, times
from packify.cli.options import (
    Alpha,
    FactoryArgs,
    Gamma,
    GammaPolicyOption,
    InChans,
    InputSize,
    Json,
    MinChannels,
    ModelArgument,
    NumClasses,
    NumEstimators,
    RoundTo,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.table import Table
    from torch import nn

    from packify.budgets import Budget, Cost

_COUNTING = "Counting"

ConventionOption = Annotated[
    Literal["macs", "torchinfo"],
    typer.Option("--convention", help="How Mult-Adds are counted: multiply-accumulates, or as torchinfo does.", rich_help_panel=_COUNTING),
]
DtypeOption = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        help="Give bytes for floating weights and activations of this type.",
        show_default="the model's",
        rich_help_panel=_COUNTING,
    ),
]
PerLayer = Annotated[bool, typer.Option("--per-layer", help="List every layer.", rich_help_panel=_COUNTING)]


def budget(
    model: ModelArgument,
    alpha: Alpha,
    num_estimators: NumEstimators,
    gamma: Gamma = 1,
    gamma_policy: GammaPolicyOption = "paper",
    min_channels_per_group: MinChannels = 64,
    round_to: RoundTo = 1,
    num_classes: NumClasses = None,
    in_chans: InChans = None,
    input_size: InputSize = None,
    arg: FactoryArgs = None,
    convention: ConventionOption = "macs",
    dtype: DtypeOption = None,
    per_layer: PerLayer = False,
    json: Json = False,
) -> None:
    """Count parameters, Mult-Adds and memory of a configuration; no weight is allocated."""
    from packify.spec import Spec

    spec = Spec(alpha, num_estimators, gamma, gamma_policy, min_channels_per_group, round_to)
    with steps(3, json) as step:
        with step("import", "importing torch"):
            from packify import budgets as counting
        with step("build", f"building {model} without weights"):
            network, example = reference(model, num_classes, in_chans, input_size, arg)
        with step("count", f"counting {model}"):
            found = counting.Planner(network, example, convention=convention, dtype=dtype).budget(spec)
    if json:
        print_json({"model": model, **found.to_dict(), "seconds": step.seconds})
    else:
        show(model, found, per_layer)


def reference(
    model: str, num_classes: int | None, in_chans: int | None, input_size: str | None, arg: list[str] | None
) -> tuple[nn.Module, Any]:
    """The network that `model` names, without weights, and inputs to record it with."""
    from packify import sources

    size = None if input_size is None else sources.parse_input_size(input_size)
    args = dict(map(sources.parse_argument, arg or ()))
    found = sources.resolve(model, num_classes=num_classes, in_chans=in_chans, input_size=size, args=args, device="meta")
    return found.model, found.example(device="meta")


def show(model: str, found: Budget, per_layer: bool) -> None:
    """The whole report."""
    from rich.text import Text

    from packify.budgets import CONVENTION_TEXT
    from packify.cli.conversion import notes_text

    console, spec = out(), found.spec
    title = Text("\n").append(model, style="bold")
    title.append(f" as Packed-Ensembles (alpha {spec.alpha:g}, M {spec.num_estimators}, gamma {spec.gamma})")
    console.print(title)
    console.print(Text(f"width ratio alpha/M = {float(spec.ratio):.3g}, gamma policy {spec.gamma_policy}, {found.dtype}\n", style="dim"))
    console.print(networks_table(found))
    if per_layer:
        console.print(layers_table(found))
    console.print(Text(f"Mult-Adds ({found.convention}): {CONVENTION_TEXT[found.convention]}.", style="dim"))
    console.print(
        Text(
            "Activations are of one sample; a Deep Ensemble's networks run one after the other, and each is trained by itself.", style="dim"
        )
    )
    console.print()
    for title_text, notes in (("pinned widths", found.pins), ("rounded widths", found.rounded), ("lowered gamma", found.lowered)):
        if notes:
            console.print(notes_text(title_text, notes))


def size(value: int) -> str:
    """Bytes with a decimal unit: ``14.3 kB``, ``102.4 MB``, ``3.58 GB``."""
    for unit, name, digits in ((10**9, "GB", 2), (10**6, "MB", 1), (10**3, "kB", 1)):
        if value >= unit:
            return f"{value / unit:.{digits}f} {name}"
    return f"{value} B"


_ROWS: tuple[tuple[str, Callable[[Cost], int], Callable[[int], str]], ...] = (
    ("parameters", lambda cost: cost.params, amount),
    ("buffers", lambda cost: cost.buffers, amount),
    ("Mult-Adds", lambda cost: cost.mult_adds, amount),
    ("weights", lambda cost: cost.total_weight_bytes, size),
    ("activations, inference peak", lambda cost: cost.inference_bytes, size),
    ("activations, kept for backward", lambda cost: cost.training_bytes, size),
)


def networks_table(found: Budget) -> Table:
    """Reference, member, packed network and Deep Ensemble side by side, with ratios to the reference."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    count = found.spec.num_estimators
    labels = {"reference": "reference", "member": "one member", "packed": "packed", "deep_ensemble": f"Deep Ensemble of {count}"}
    networks = found.networks()
    for name, label in labels.items():
        table.add_column(label, justify="right", style="bold" if name == "packed" else "dim" if name == "deep_ensemble" else "")

    def add(label: str, value: Callable[[Cost], int], text: Callable[[int], str]) -> None:
        cells = [
            text(value(cost)) if name == "reference" else f"{text(value(cost))}  {times(value(cost), value(found.reference)):>6}"
            for name, cost in networks.items()
        ]
        table.add_row(label, *cells)

    for label, value, text in _ROWS:
        add(label, value, text)
        if label == "weights" and len(found.reference.weight_bytes) > 1:
            for dtype in found.reference.weight_bytes:
                add(f"  {dtype}", lambda cost, dtype=dtype: cost.weight_bytes.get(dtype, 0), size)  # type: ignore[misc] # the default binds the loop's value
    return table


def layers_table(found: Budget) -> Table:
    """Every layer of the packed network; the columns add up to its totals."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True)
    table.add_column("layer", footer="total", overflow="fold")
    table.add_column("kind")
    for label in ("width", "groups", "gamma"):
        table.add_column(label, justify="right", no_wrap=True)
    table.add_column("parameters", justify="right", footer=f"{sum(layer.params for layer in found.layers):,}", no_wrap=True)
    table.add_column("Mult-Adds", justify="right", footer=f"{sum(layer.mult_adds for layer in found.layers):,}", no_wrap=True)
    table.add_column("share", justify="right", footer="100.0%", no_wrap=True)
    count = found.spec.num_estimators
    for layer in found.layers:
        table.add_row(
            layer.name or "(the network itself)",
            layer.kind,
            "" if layer.width is None else f"{layer.reference_width} > {count} x {layer.member_width}",
            "" if layer.groups is None else str(layer.groups),
            "" if layer.gamma is None else str(layer.gamma),
            f"{layer.params:,}" if layer.params else "",
            f"{layer.mult_adds:,}" if layer.mult_adds else "",
            f"{layer.share:.1%}" if layer.mult_adds else "",
        )
    return table
