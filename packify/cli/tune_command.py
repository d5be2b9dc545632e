"""`packify tune`: the fastest way to run an artefact on this device, measured, and kept in the artefact."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from packify.cli.console import err, out, print_json
from packify.cli.loading import load_packed
from packify.cli.options import ArtefactArgument, FactoryArgs, Json, Quiet, ReferenceOption
from packify.cli.sweep_command import progress

if TYPE_CHECKING:
    from rich.table import Table

    from packify.execution.tuning import Tuning

Batches = Annotated[str, typer.Option("--batch", metavar="A,B,...", help="Batch sizes to tune for.")]
ModeOption = Annotated[Literal["infer", "train"], typer.Option("--mode", help="Without gradients, or a forward and a backward pass.")]
Seconds = Annotated[float, typer.Option("--budget-s", metavar="SECONDS", help="Time for each batch size.")]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1 ...")]
DtypeOption = Annotated[
    Literal["float32", "bfloat16", "float16", "float64"], typer.Option("--dtype", help="Of weights and inputs, while measuring.")
]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads of torch on a CPU.", show_default=False)]


def tune(
    directory: ArtefactArgument,
    batch: Batches = "1",
    mode: ModeOption = "infer",
    budget_s: Seconds = 30.0,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "float32",
    threads: Threads = None,
    model: ReferenceOption = None,
    arg: FactoryArgs = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure every way to run an artefact on this device, and keep the fastest in it."""
    from packify.cli.sweep_command import listed

    batches = listed("--batch", batch, int)
    with progress("importing torch", quiet=quiet or json) as report:
        import torch

        from packify.artefact.execution import keep_execution
        from packify.cli.device_inputs import inputs_like, require_device

        place = require_device(device)
        if threads is not None:
            torch.set_num_threads(threads)
        report(f"loading {directory}", 0, 100)
        packed = load_packed(directory, model, arg).to(place, getattr(torch, dtype)).train(mode == "train")
        found: list[Tuning] = []
        for size in batches:
            x = inputs_like(packed, size, place, getattr(torch, dtype))
            found.append(packed.tune(x, mode=mode, budget_s=budget_s, progress=_told(report, f"batch {size}")))
        keep_execution(packed, directory)
    if json:
        print_json({"artefact": str(directory), "tunings": [one.to_dict() for one in found]})
    elif not quiet:
        for one in found:
            out().print(tuning_table(one))
        err().print(f"kept in {directory}", soft_wrap=True)


def _told(report: Callable[[str, int, int], None], what: str) -> Callable[[float, str], None]:
    """Progress as a bar of a hundred steps."""
    return lambda share, way: report(f"{what}: {way}", int(100 * share), 100)


def tuning_table(found: Tuning) -> Table:
    """Every way that was tried, the choice and then fastest first."""
    from rich import box
    from rich.table import Table

    choice = found.choice
    threads = f", {choice.threads} threads" if choice.threads > 1 else ", 1 thread" if choice.threads else ""
    title = f"{choice.mode}, batch {choice.batch}, {choice.device}, {choice.dtype}{threads}"
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    for label in ("strategy", "memory format"):
        table.add_column(label, no_wrap=True)
    for label in ("median", "of the choice", "spread", "rounds"):
        table.add_column(label, justify="right", no_wrap=True)
    table.add_column("")
    best = found.tried[0].seconds
    for index, one in enumerate(found.tried):
        cells: list[Any] = ["-"] * 4
        if one.rounds:
            cells = [f"{1e3 * one.seconds:.2f} ms", f"{one.seconds / best:.2f}x", f"{100 * one.spread:.0f} %", str(one.rounds)]
        table.add_row(one.label, one.memory_format, *cells, one.note, style="bold" if index == 0 else "dim" if one.note else "")
    return table
