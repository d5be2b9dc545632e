"""An evaluation as one picture: reliability, in- against out-of-distribution, accuracy against rejection. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from packify.core.errors import DataError, SpecError
from packify.evaluation.results import Comparison, Detection, Evaluation

Score = Literal["max_softmax", "mutual_information", "entropy", "max_logit"]

# Told apart in black and white too: by dash and by the darkness of the colour (Okabe and Ito's palette for every kind of sight).
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
_SCORES = {
    "max_softmax": "1 - max softmax",
    "mutual_information": "mutual information (nats)",
    "entropy": "entropy (nats)",
    "max_logit": "minus max logit",
}
_FORMATS = ("png", "pdf", "svg")


def plot_evaluation(
    found: Evaluation | Comparison | Mapping[str, Evaluation], path: str | Path, title: str = "", score: Score = "entropy"
) -> Path:
    """Draw one or several evaluations and write them to `path` (``.png``, ``.pdf`` or ``.svg``).

    Left: accuracy by confidence (bins of the ECE, with at least one sample). Middle, where there is out-of-distribution data: the
    histograms of both sides, one row per network. Right: accuracy on what is kept when the least confident samples are rejected, with
    a thin line under shift where there is shifted data.

    Args:
        found: an evaluation, or several by name.
        path: the file.
        title: above the picture.
        score: of the histograms.

    Raises:
        SpecError: matplotlib is missing or does not know the file's format, or there is no such folder.
        DataError: the file cannot be written, or there is nothing to draw.
    """
    target = check_picture(path)
    figure = draw_evaluation(found, title, score)
    try:
        figure.savefig(target, dpi=150)
    except OSError as error:
        raise DataError(str(path), found=str(error), why="the picture cannot be written there", fix="choose another path") from error
    return target


def check_picture(path: str | Path) -> Path:
    """Whether a picture can be drawn and written as `path` asks, before any work is done.

    Raises:
        SpecError: matplotlib is missing or does not know the file's format, or there is no such folder.
    """
    target = Path(path)
    _new_figure()
    if target.suffix.lstrip(".").lower() not in _FORMATS:
        found = f"the format {target.suffix or '(none)'}"
        raise SpecError(str(path), found=found, why="a picture is written as png, pdf or svg", fix="pass evaluation.png")
    if not target.parent.is_dir():
        raise SpecError(str(path), found="no such folder", why="the picture is a file in it", fix=f"mkdir -p {target.parent}")
    return target


def draw_evaluation(found: Evaluation | Comparison | Mapping[str, Evaluation], title: str = "", score: Score = "entropy") -> Any:
    """The picture of `plot_evaluation` as a ``matplotlib.figure.Figure``.

    Raises:
        DataError: there is nothing to draw, or no such score; or an evaluation is not of classes.
    """
    named = _by_name(found)
    other = next((type(one).__name__ for one in named.values() if not isinstance(one, Evaluation)), None)
    if other is not None:
        raise DataError(
            "plot_evaluation",
            found=f"a {other}",
            why="it draws confidences of classes",
            fix="draw found.coverage and found.rejection of numbers, found.reliability of labels, as examples/regression.py does",
        )
    if not named or score not in _SCORES:
        raise DataError(
            "plot_evaluation",
            found=f"{len(named)} evaluations and the score {score!r}",
            why=f"it draws at least one evaluation, by one of {', '.join(_SCORES)}",
            fix='pass packify.evaluate(...), score="entropy"',
        )
    detections = {name: getattr(one.ood, score) for name, one in named.items() if one.ood is not None}
    panels = 3 if detections else 2
    rows = max(len(detections), 1)
    figure = _new_figure(figsize=(4.2 * panels, max(4.4, 1.4 * rows) + 0.2 * len(named)), layout="constrained")
    grid = figure.add_gridspec(rows, panels)
    _reliability(figure.add_subplot(grid[:, 0]), named)
    _rejection(figure.add_subplot(grid[:, panels - 1]), named)
    if detections:
        beside = figure.add_subplot(grid[:, 1], frame_on=False, xticks=[], yticks=[])
        beside.set_ylabel("share of samples, root scale")
        _histograms([figure.add_subplot(grid[row, 1]) for row in range(rows)], detections, _SCORES[score])
    if title:
        figure.suptitle(title, fontweight="bold")
    return figure


def _by_name(found: Evaluation | Comparison | Mapping[str, Evaluation]) -> dict[str, Any]:
    if isinstance(found, Comparison):
        return found.evaluations
    return dict(found) if isinstance(found, Mapping) else {"": found}


def _style(position: int) -> dict[str, Any]:
    return {"color": _COLOURS[position % len(_COLOURS)], "linestyle": _DASHES[position % len(_DASHES)], "linewidth": 1.8}


def _reliability(axes: Any, named: Mapping[str, Evaluation]) -> None:
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, zorder=1)
    axes.annotate(
        "perfectly calibrated", (0.03, 0.03), rotation=45, rotation_mode="anchor", xytext=(0, 4), textcoords="offset points", color="0.45",
        fontsize=8,
    )  # fmt: skip
    for position, (name, found) in enumerate(named.items()):
        bins = [one for one in found.reliability if one.samples]
        style = _style(position)
        x, y = [one.confidence for one in bins], [one.accuracy for one in bins]
        # the area of a point is the share of samples in its bin, so that bins of a few samples do not shout
        areas = [6 + 150 * one.samples / found.samples for one in bins]
        label = f"{name}: " if name else ""
        axes.plot(x, y, label=f"{label}ECE {100 * found.ece:.1f} %, NLL {found.nll:.3f}", zorder=3, **style | {"linewidth": 1.1})
        axes.scatter(x, y, areas, color=style["color"], edgecolors="white", linewidths=0.5, zorder=4, clip_on=False)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy")
    axes.set_title("Reliability (area of a point: samples)", fontsize=10)
    _finish(axes)


def _histograms(rows: list[Any], detections: Mapping[str, Detection], label: str) -> None:
    import numpy as np

    low = min(found.histogram.edges[0] for found in detections.values())
    high = max(found.histogram.edges[-1] for found in detections.values())
    low = 0.0 if 0 < low < 0.05 * high else low
    for position, (axes, (name, found)) in enumerate(zip(rows, detections.items(), strict=True)):
        edges = found.histogram.edges
        for share, colour, text, hatch in (
            (found.histogram.in_distribution, "#0072B2", "in-distribution", ""),
            (found.histogram.out_of_distribution, "#D55E00", "out-of-distribution", "////"),
        ):
            axes.stairs(share, edges, fill=True, facecolor=colour, alpha=0.35, label=text, hatch=hatch, edgecolor=colour, linewidth=0)
            axes.stairs(share, edges, color=colour, linewidth=1.4)
        text = f"AUROC {found.auroc:.3f}   FPR95 {found.fpr95:.3f}"
        axes.set_title(f"{name}: {text}" if name else text, fontsize=9 if len(rows) > 1 else 10)
        axes.set_yscale("function", functions=(np.sqrt, np.square))
        axes.set(xlim=(low, high), ylim=(0, 1.25 * max(*found.histogram.in_distribution, *found.histogram.out_of_distribution)), yticks=[])
        if position == 0:
            axes.legend(frameon=False, fontsize=8, loc="upper right")
        if position == len(rows) - 1:
            axes.set_xlabel(label)
        else:
            axes.set_xticklabels([])
        axes.locator_params(axis="x", nbins=5)
        axes.spines[["top", "right", "left"]].set_visible(False)


def _rejection(axes: Any, named: Mapping[str, Evaluation]) -> None:
    for position, (name, found) in enumerate(named.items()):
        x = [index / len(found.rejection) for index in range(len(found.rejection))]
        label = f"{name}: " if name else ""
        axes.plot(x, found.rejection, label=f"{label}accuracy {100 * found.accuracy:.1f} %, AURC {found.aurc:.3f}", **_style(position))
        if found.shift is not None:
            style = _style(position) | {"linewidth": 0.9}
            text = f"{label}under shift accuracy {100 * found.shift.accuracy:.1f} %, AURC {found.shift.aurc:.3f}"
            axes.plot(x, found.shift.rejection, label=text, marker=".", markevery=10, markersize=5, **style)
    axes.set(xlim=(0, 1), xlabel="share rejected, least confident first", ylabel="accuracy on what is kept")
    axes.set_ylim(top=1 + 0.03 * (1 - axes.get_ylim()[0]))
    axes.set_title("Accuracy against rejection", fontsize=10)
    _finish(axes)


def _finish(axes: Any) -> None:
    axes.grid(visible=True, color="0.92", linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.14), borderaxespad=0)


def _new_figure(**options: Any) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SpecError(
            "the picture",
            found="matplotlib is not installed",
            why="drawing is an optional extra",
            fix='pip install "packify-torch[plot]"',
        ) from error
    figure = Figure(**options)
    FigureCanvasAgg(figure)
    return figure
