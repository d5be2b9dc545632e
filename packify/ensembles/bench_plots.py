"""A bench as a picture: samples per second of every contender, one panel per mode and batch. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from packify.budgets.plots import check_plot
from packify.core.errors import BudgetError
from packify.ensembles.benchmarking import Bench, Line

# Light for channels last, dark for contiguous; hatched what is not packed.
_FILLS = {"channels_last": "0.75", "contiguous": "0.35", "its own": "black"}


def plot_bench(bench: Bench, path: str | Path, title: str = "") -> Path:
    """Draw a bench and write it to `path` (``.png``, ``.pdf`` or ``.svg``).

    Raises:
        BudgetError: matplotlib is missing, or the picture cannot be written there.
    """
    target = check_plot(path)
    try:
        draw_bench(bench, title).savefig(target, dpi=150, bbox_inches="tight")
    except OSError as error:
        raise BudgetError(str(path), found=str(error), why="the picture cannot be written there", fix="choose another path") from error
    return target


def draw_bench(bench: Bench, title: str = "") -> Any:
    """The figure, a ``matplotlib.figure.Figure``."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    panels = list(dict.fromkeys((line.mode, line.batch) for line in bench.lines if line.seconds is not None))
    figure = Figure(figsize=(7.5, 0.6 + 3.4 * len(panels)), layout="constrained")
    for number, (mode, batch) in enumerate(panels):
        axes = figure.add_subplot(len(panels), 1, number + 1)
        lines = [line for line in bench.lines if (line.mode, line.batch) == (mode, batch) and line.seconds is not None]
        lines.sort(key=lambda line: line.per_second)
        axes.barh(
            [_label(line) for line in lines],
            [line.per_second for line in lines],
            xerr=[line.per_second * min(line.spread, 1.0) for line in lines],
            color=[_FILLS.get(line.memory_format, "0.5") for line in lines],
            edgecolor="black",
            hatch=["//" if line.contender.startswith(("single", "Deep")) else "" for line in lines],
            linewidth=0.6,
        )
        for place, line in enumerate(lines):
            axes.annotate(f" {line.to_single:.2f}x", (line.per_second * (1 + min(line.spread, 1.0)), place), va="center", fontsize=7)
        axes.margins(x=0.12)
        axes.set_xlim(left=0)
        axes.tick_params(axis="y", labelsize=8)
        axes.set_xlabel(
            f"samples per second, {'inference' if mode == 'infer' else 'training'}, batch {batch}; beside it the time over single's"
        )
    handles = [Patch(facecolor=fill, edgecolor="black", label=name.replace("_", " ")) for name, fill in _FILLS.items()]
    handles.append(Patch(facecolor="white", edgecolor="black", hatch="//", label="not packed"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False)
    threads = f", {bench.threads} thread{'s' * (bench.threads != 1)}" if bench.threads else ""
    figure.suptitle(f"{title}\n{bench.device}, {bench.dtype}{threads}, torch {bench.torch}".strip(), fontsize=10)
    return figure


def _label(line: Line) -> str:
    return f"{line.contender}, {line.memory_format.replace('_', ' ')}" if line.memory_format != "its own" else line.contender
