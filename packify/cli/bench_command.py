"""`packify bench`: how fast a network is as Packed-Ensembles, next to what it replaces."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from packify.cli.console import err, out, print_json
from packify.cli.numbers import megabytes
from packify.cli.options import Alpha, FactoryArgs, Gamma, InChans, InputSize, Json, ModelArgument, NumClasses, NumEstimators
from packify.cli.sweep_command import listed, progress
from packify.cli.tune_command import DeviceOption, DtypeOption, Threads

if TYPE_CHECKING:
    from rich.table import Table

    from packify.ensembles.benchmarking import Bench, Line

Batches = Annotated[str, typer.Option("--batch", metavar="A,B,...", help="Batch sizes.")]
Train = Annotated[bool, typer.Option("--train", help="Also a forward and a backward pass.")]
Compiled = Annotated[bool, typer.Option("--compile", help="Also the compiled single and packed networks, a minute for each.")]
Seconds = Annotated[float, typer.Option("--budget-s", metavar="SECONDS", help="Time for each batch size and mode.")]
Plot = Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw samples per second (png, pdf, svg).", show_default=False)]

_ENOUGH_ROUNDS = 5


def bench(
    model: ModelArgument,
    alpha: Alpha,
    num_estimators: NumEstimators,
    gamma: Gamma = 1,
    batch: Batches = "1,16,64",
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "float32",
    train: Train = False,
    compiled: Compiled = False,
    threads: Threads = None,
    budget_s: Seconds = 30.0,
    num_classes: NumClasses = None,
    in_chans: InChans = None,
    input_size: InputSize = None,
    arg: FactoryArgs = None,
    plot: Plot = None,
    json: Json = False,
) -> None:
    """Measure a network packed, tuned and compiled, against itself alone, its members in turn or under vmap, and a Deep Ensemble."""
    batches = listed("--batch", batch, int)
    with progress("importing torch", quiet=json) as report:
        import torch

        import packify
        from packify import sources
        from packify.budgets.plots import check_plot
        from packify.cli.device_inputs import inputs_like, require_device
        from packify.ensembles.bench_plots import plot_bench
        from packify.ensembles.benchmarking import bench as measure
        from packify.execution.measuring import LEFT_OUT

        if plot is not None:
            check_plot(plot)
        place, kind = require_device(device), getattr(torch, dtype)
        if threads is not None:
            torch.set_num_threads(threads)
        size = None if input_size is None else sources.parse_input_size(input_size)
        args = dict(map(sources.parse_argument, arg or ()))
        found = sources.resolve(model, num_classes=num_classes, in_chans=in_chans, input_size=size, args=args)
        recording = packify.record(found.model, found.example())
        numbers: dict[str, Any] = {"alpha": alpha, "num_estimators": num_estimators, "gamma": gamma}
        packed = recording.pack(**numbers).to(place, kind)
        with contextlib.redirect_stdout(None):
            measured = measure(
                found.model.to(place, kind),
                packed,
                lambda count: inputs_like(packed, count, place, kind),
                recording.budget(**numbers, dtype=kind),
                batches=batches,
                modes=("infer", "train") if train else ("infer",),
                compiled=("single", "packed") if compiled else (),
                budget_s=budget_s,
                progress=lambda share, what: report(what, int(100 * share), 100),
            )
        if plot is not None:
            plot_bench(measured, plot, title=f"{model} as PE-({alpha:g}, {num_estimators}, {gamma})")
    if json:
        print_json({"model": model, **numbers, **measured.to_dict()})
        return
    console = out()
    for mode, count in dict.fromkeys((line.mode, line.batch) for line in measured.lines):
        lines = [line for line in measured.lines if (line.mode, line.batch) == (mode, count)]
        console.print(bench_table(measured, lines))
        for why, names in _failures(lines).items():
            console.print(f"not run: {', '.join(names)}: {why}", style="dim", soft_wrap=True)
        if chosen := next((line.note for line in lines if line.contender == "packed tuned" and line.seconds is not None), ""):
            console.print(f"packed tuned: {chosen}", style="dim", soft_wrap=True)
        if few := sum(0 < line.rounds < _ENOUGH_ROUNDS for line in lines if line.note != LEFT_OUT):
            why = f"{few} of {len(lines)} were timed in fewer than {_ENOUGH_ROUNDS} rounds: a swing of the machine may decide"
            console.print(f"{why}; pass a larger --budget-s than {budget_s:g}", style="yellow", soft_wrap=True)
    compute, copying = measured.mult_adds_per_s / 1e9, measured.bytes_per_s / 1e9
    console.print(
        "x single: time over that of the single network in its faster format; x Mult-Adds: the same over the ratio of Mult-Adds; roofline: "
        f"share of what {measured.device} does at best, {compute:.0f} G Mult-Adds/s and {copying:.0f} GB/s measured here.",
        style="dim",
    )
    if plot is not None:
        err().print(f"written: {plot}", soft_wrap=True)


def _failures(lines: list[Line]) -> dict[str, list[str]]:
    """The contenders that did not run, by the reason."""
    found: dict[str, list[str]] = {}
    for line in lines:
        if line.seconds is None:
            found.setdefault(line.note, []).append(f"{line.contender} ({line.memory_format})")
    return found


def bench_table(found: Bench, lines: list[Line]) -> Table:
    """The contenders at one batch in one mode, fastest first."""
    from rich import box
    from rich.table import Table

    threads = f", {found.threads} thread{'s' * (found.threads != 1)}" if found.threads else ""
    mode = "inference" if lines[0].mode == "infer" else "training"
    title = f"{mode}, batch {lines[0].batch}: {found.device}, {found.dtype}{threads}, torch {found.torch}"
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    for label in ("", "memory format"):
        table.add_column(label, no_wrap=True)
    for label in ("median", "spread", "samples/s", "x single", "x Mult-Adds", "roofline", "memory"):
        table.add_column(label, justify="right", no_wrap=True)
    for line in lines:
        if line.seconds is None:
            table.add_row(line.contender, line.memory_format, *["-"] * 7, style="dim")
            continue
        table.add_row(
            line.contender, line.memory_format, f"{1e3 * line.seconds:.2f} ms", f"{100 * line.spread:.0f} %", f"{line.per_second:.1f}",
            f"{line.to_single:.2f}", f"{line.to_mult_adds:.2f}", f"{100 * line.roofline:.0f} % {line.bound}",
            "-" if line.peak_bytes is None else megabytes(line.peak_bytes), style="bold" if line.contender.startswith("packed") else "",
        )  # fmt: skip
    return table
