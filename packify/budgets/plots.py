"""A sweep as a picture: parameters against Mult-Adds, with the reference and the Deep Ensembles. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from packify.budgets.sweeping import Sweep
from packify.core.errors import BudgetError

# Told apart by shape and fill alone, so that a black-and-white print loses nothing.
_SHAPES = ("o", "^", "v", "D", "<", ">", "p", "h")
_FILLS = ("white", "0.65", "black", "0.85", "0.35")


def plot(sweep: Sweep, path: str | Path, title: str = "") -> Path:
    """Draw a sweep and write it to `path` (``.png``, ``.pdf`` or ``.svg``).

    Shape is M, fill is gamma, the number beside a point is alpha. The legend stands outside the axes.

    Raises:
        BudgetError: matplotlib is missing, or does not know the file's format.
    """
    target = check_plot(path)
    figure = draw(sweep, title)
    try:
        figure.savefig(target, dpi=150, bbox_inches="tight")
    except OSError as error:
        raise BudgetError(str(path), found=str(error), why="the picture cannot be written there", fix="choose another path") from error
    return target


def check_plot(path: str | Path) -> Path:
    """Whether a picture can be drawn and written as `path` asks, before any work is done.

    Raises:
        BudgetError: matplotlib is missing, or does not know the file's format.
    """
    target = Path(path)
    known = _figure_class()().canvas.get_supported_filetypes()
    if target.suffix.lstrip(".").lower() not in known:
        found = f"the format {target.suffix or '(none)'}"
        raise BudgetError(str(path), found=found, why="a picture is written as png, pdf or svg", fix="pass sweep.png")
    return target


def draw(sweep: Sweep, title: str = "") -> Any:
    """The figure, a ``matplotlib.figure.Figure``."""
    figure_class = _figure_class()
    figure = figure_class(figsize=(8.5, 5.2), layout="constrained")
    axes = figure.add_subplot()
    counts = list(dict.fromkeys(budget.spec.num_estimators for budget in sweep.budgets))
    gammas = list(dict.fromkeys((budget.spec.gamma, budget.spec.gamma_policy) for budget in sweep.budgets))
    several_policies = len({policy for gamma, policy in gammas if gamma > 1}) > 1
    for count in counts:
        for position, (gamma, policy) in enumerate(gammas):
            chosen = [b for b in sweep.budgets if (b.spec.num_estimators, b.spec.gamma, b.spec.gamma_policy) == (count, gamma, policy)]
            if not chosen:
                continue
            chosen.sort(key=lambda b: b.spec.alpha)
            x, y = [b.packed.params / 1e6 for b in chosen], [b.packed.mult_adds / 1e9 for b in chosen]
            label = f"M = {count}, $\\gamma$ = {gamma}" + (f" ({policy})" if several_policies and gamma > 1 else "")
            axes.plot(
                x,
                y,
                color="0.6",
                linewidth=0.8,
                marker=_SHAPES[counts.index(count) % len(_SHAPES)],
                markersize=7,
                markerfacecolor=_FILLS[position % len(_FILLS)],
                markeredgecolor="black",
                label=label,
                zorder=3,
            )
            for b, px, py in zip(chosen, x, y, strict=True):
                # ungrouped points form the lower edge of the cloud, so their numbers go below and the others' above
                offset, side = ((5, -9), "left") if gamma == 1 else ((-5, 4), "right")
                axes.annotate(f"{b.spec.alpha:g}", (px, py), textcoords="offset points", xytext=offset, ha=side, fontsize=7, zorder=4)
    _landmark(axes, sweep.reference.params, sweep.reference.mult_adds, "*", 19, "reference", "reference")
    for index, (count, cost) in enumerate(sorted(sweep.deep_ensembles.items())):
        _landmark(axes, cost.params, cost.mult_adds, "X", 13, "Deep Ensemble of M" if index == 0 else "_nolegend_", f"DE, M = {count}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    _plain_ticks(axes)
    axes.set_xlabel("parameters (millions)")
    axes.set_ylabel("Mult-Adds of one sample ($10^9$)")
    axes.set_title(title)
    axes.grid(visible=True, which="major", color="0.9", linewidth=0.6)
    axes.margins(0.12)
    axes.annotate("numbers beside points: $\\alpha$", (1.02, 0.0), xycoords="axes fraction", fontsize=8, annotation_clip=False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, frameon=False, fontsize=8, labelspacing=1.1)
    return figure


def _landmark(axes: Any, params: int, mult_adds: int, marker: str, size: int, label: str, text: str) -> None:
    x, y = params / 1e6, mult_adds / 1e9
    # drawn below the points, hollow and larger, so that a point in the same place stays visible
    axes.plot(
        [x],
        [y],
        color="black",
        linestyle="none",
        marker=marker,
        markersize=size,
        markerfacecolor="white",
        markeredgecolor="black",
        label=label,
        zorder=2,
    )
    axes.annotate(text, (x, y), textcoords="offset points", xytext=(18, -20), ha="center", fontsize=8, fontstyle="italic", zorder=6)


def _plain_ticks(axes: Any) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())


def _figure_class() -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BudgetError(
            "the plot",
            found="matplotlib is not installed",
            why="drawing is an optional extra",
            fix='pip install "packify-torch[plot]"',
        ) from error

    def figure(**options: Any) -> Any:
        made = Figure(**options)
        FigureCanvasAgg(made)
        return made

    return figure
