"""`packify budget`: what a configuration costs, before anything is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from packify.cli.console import out, print_json, steps
from packify.cli.members import spec_of
from packify.cli.methods import AlphaOrPaper, BudgetMethod, CountOrPaper, methods_table
from packify.cli.options import (
    DropOutput,
    FactoryArgs,
    FreeOutput,
    Gamma,
    GammaPolicyOption,
    GroupsOption,
    HeadsOption,
    InChans,
    InputSize,
    Json,
    MinChannels,
    ModelArgument,
    NumClasses,
    RoundTo,
    UnusedOption,
    output_choices,
)
from packify.cli.tables import layers_table, networks_table, notes_text

if TYPE_CHECKING:
    from torch import nn

    from packify.budgets import Budget
    from packify.budgets.devices import DevicePlan
    from packify.ensembles.methods.costs import MethodBudgets

_COUNTING, _DEVICES = "Counting", "Devices"

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
MeshOption = Annotated[
    str | None,
    typer.Option(
        "--mesh", metavar="member=G,data=D", help="Devices: members over G, batches over D.", show_default=False, rich_help_panel=_DEVICES
    ),
]
GpuMemory = Annotated[
    str | None, typer.Option("--gpu-memory", metavar="SIZE", help="Of one device: 80GB.", show_default=False, rich_help_panel=_DEVICES)
]
OptimizerOption = Annotated[
    Literal["sgd", "momentum", "adam", "adamw", "lion"],
    typer.Option("--optimizer", help="What is kept of every parameter.", rich_help_panel=_DEVICES),
]
ParallelOption = Annotated[Literal["ddp", "fsdp"], typer.Option("--parallel", help="Along data.", rich_help_panel=_DEVICES)]
BatchOption = Annotated[int, typer.Option("--batch", min=1, help="Samples of a training step, on all devices.", rich_help_panel=_DEVICES)]
PerLayer = Annotated[bool, typer.Option("--per-layer", help="List every layer.", rich_help_panel=_COUNTING)]


def budget(
    model: ModelArgument,
    alpha: AlphaOrPaper = None,
    num_estimators: CountOrPaper = None,
    gamma: Gamma = 1,
    gamma_policy: GammaPolicyOption = "paper",
    min_channels_per_group: MinChannels = 64,
    round_to: RoundTo = 1,
    unused: UnusedOption = "drop",
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
    per_layer: PerLayer = False,
    method: BudgetMethod = "packed",
    mesh: MeshOption = None,
    gpu_memory: GpuMemory = None,
    optimizer: OptimizerOption = "adamw",
    parallel: ParallelOption = "ddp",
    batch: BatchOption = 256,
    json: Json = False,
) -> None:
    """Count parameters, Mult-Adds and memory of a configuration; no weight is allocated. With --mesh, for each device of many."""
    if method == "all":
        alpha, num_estimators = 2 if alpha is None else alpha, 4 if num_estimators is None else num_estimators
    policies: dict[str, Any] = {"gamma_policy": gamma_policy, "min_channels_per_group": min_channels_per_group, "round_to": round_to}
    spec = spec_of(alpha, num_estimators, gamma, None, **policies, unused=unused, heads=heads, groups=groups)
    with steps(3, json) as step:
        with step("import", "importing torch"):
            import packify
            from packify.budgets.devices import check_mesh, output_bytes, parse_mesh
        shape = None if mesh is None and gpu_memory is None else parse_mesh(mesh or "member=1")
        if shape is not None:
            check_mesh(shape, spec.num_estimators, batch)
        with step("build", f"building {model} without weights"):
            network, example = reference(model, num_classes, in_chans, input_size, arg)
        with step("count", f"counting {model}"):
            recording = packify.record(network, example, outputs=output_choices(free_output, drop_output))
            found = recording.budget(**spec.to_dict(), convention=convention, dtype=dtype)
            every = recording.method_budgets(**spec.to_dict(), convention=convention, dtype=dtype) if method == "all" else None
            device = None
            if shape is not None:
                own = recording.budget(
                    **spec.with_members(spec.num_estimators // shape["member"]).to_dict(), convention=convention, dtype=dtype
                )
                sent = output_bytes(recording.graphs.graphs["eval"], recording.graphs.batch or 1)
                device = _device(own, shape, gpu_memory, optimizer, parallel, batch, sent)
    if json and every is not None:
        print_json({"model": model, **every.to_dict(), "seconds": step.seconds})
    elif every is not None:
        show_methods(model, every)
    elif json:
        print_json({"model": model, **found.to_dict(), **({} if device is None else {"device": device.to_dict()}), "seconds": step.seconds})
    else:
        show(model, found, per_layer)
        if device is not None:
            from packify.cli.devices import device_table

            out().print(device_table(device))


def _device(own: Budget, mesh: dict[str, int], memory: str | None, optimizer: Any, parallel: Any, batch: int, sent: int) -> DevicePlan:
    from packify.artefact.weights import checked_size
    from packify.budgets.devices import plan

    limit = None if memory is None else checked_size(memory, "--gpu-memory")
    members = own.spec.num_estimators
    return plan(
        own.packed, own.member, mesh, members, batch=batch, optimizer=optimizer, parallel=parallel, memory_bytes=limit, output_bytes=sent
    )


def reference(
    model: str, num_classes: int | None, in_chans: int | None, input_size: str | None, arg: list[str] | None
) -> tuple[nn.Module, Any]:
    """The network that `model` names, without weights, and inputs to record it with."""
    from packify import sources

    size = None if input_size is None else sources.parse_input_size(input_size)
    args = dict(map(sources.parse_argument, arg or ()))
    found = sources.resolve(model, num_classes=num_classes, in_chans=in_chans, input_size=size, args=args, device="meta")
    return found.model, found.example(device="meta")


def show_methods(model: str, found: MethodBudgets) -> None:
    """All of the paper's ensembles side by side."""
    from rich.text import Text

    from packify.budgets import CONVENTION_TEXT

    console, spec = out(), found.budget.spec
    packed = f"Packed-Ensembles (alpha {spec.alpha:g}, gamma {spec.gamma})"
    console.print(Text("\n").append(model, style="bold").append(f" as ensembles of {spec.num_estimators}, {packed}\n"))
    console.print(methods_table(found))
    console.print(Text(f"Mult-Adds of one prediction ({found.convention}): {CONVENTION_TEXT[found.convention]}.", style="dim"))
    console.print(Text("Activations are of one sample; a Deep Ensemble's networks run one after the other.", style="dim"))


def show(model: str, found: Budget, per_layer: bool) -> None:
    """The whole report."""
    from rich.text import Text

    from packify.budgets import CONVENTION_TEXT

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
            "Activations are of one sample; a Deep Ensemble's networks run one after the other, and each is trained by itself. "
            "In turn: the packed network's members trained one after the other, by packed.turns().",
            style="dim",
        )
    )
    console.print()
    for title_text, notes in (("pinned widths", found.pins), ("rounded widths", found.rounded), ("lowered gamma", found.lowered)):
        if notes:
            console.print(notes_text(title_text, notes))
