from __future__ import annotations

from pathlib import Path

import pytest

import packify
from packify.ensembles.bench_plots import draw_bench, plot_bench
from packify.ensembles.benchmarking import Bench, Line

LINES = tuple(
    Line(name, form, 4, "infer", seconds, seconds, 0.1, 5, 4 / seconds, 1.0, 1.0, 0.1, "compute", None)
    for name, form, seconds in (("single", "contiguous", 0.1), ("in turn", "channels_last", 0.2))
)
BENCH = Bench("cpu AVX2", "float32", 1, "2", 1e9, 1e9, LINES)


def test_a_bar_for_every_line() -> None:
    pytest.importorskip("matplotlib")
    (axes,) = draw_bench(BENCH).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["in turn, channels last", "single, contiguous"]
    assert axes.get_xlim()[0] == 0


def test_a_format_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(packify.BudgetError):
        plot_bench(BENCH, tmp_path / "bench.txt")
