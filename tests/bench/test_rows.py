from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from packify.ensembles.benchmarking import Bench, Line
from tests.bench import __main__ as command
from tests.bench import rows
from tests.bench.networks import Cell, cells
from tests.zoo import tables

_CELL = Cell("mlp", (1.5, 8, 1), "infer", 16, 1)


def _bench() -> Bench:
    def line(contender: str, seconds: float | None, memory_format: str = "contiguous") -> Line:
        ratio = (seconds or 0) / 1e-3
        values = seconds, seconds or 0.0, 0.1, 3, 1.0, ratio, ratio / 2, 0.5
        return Line(contender, memory_format, 16, "infer", *values, "memory", None, "" if seconds else "no |")

    timed = [
        line("single", 1e-3),
        line("packed as converted", 3e-3),
        line("packed tuned", 2e-3),
        line("grouped", 2.5e-3),
        line("vmap", None),
    ]
    return Bench("cpu AVX2", "float32", 1, "2.14", 1e9, 1e9, tuple(timed))


def test_what_was_measured_is_read_as_it_was_written_and_summed_up(tmp_path: Path) -> None:
    found = rows.rows_of(_CELL, _bench(), "a machine", "cpu")
    tables.write(rows.Row, found, tmp_path / "measured.tsv")
    assert tables.read(rows.Row, tmp_path / "measured.tsv") == found
    text = rows.page([*found, rows.failed(Cell("unet_64", (2, 4, 1), "train", 1, 2), "a machine", "PackError: a | b")])
    assert "| mlp/1.5-8-1/infer/16/1 | 1.00 | 3.00 | 2.00 | 2.50 grouped, contiguous | 0.80 | 0.80 | 2.00 | 1.00 | - | 3 |" in text
    assert "| unet_64/2-4-1/train/1/2 | PackError: a / b |" in text
    assert "## a machine, torch 2.14, cpu time" in text
    assert "- tuned over the best by hand: 0.800 and 0.800 (1 cells)" in text
    assert "compiled over" not in text


def test_a_cell_has_a_label_of_its_own_and_one_network_comes_at_once() -> None:
    found = list(cells([1, 2]))
    assert len({cell.label for cell in found}) == len(found)
    order = [(cell.network, cell.spec) for cell in found]
    assert sum(one != other for one, other in itertools.pairwise(order)) == len(set(order)) - 1


def test_a_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(rows, "TABLE", tmp_path / "measured.tsv")
    monkeypatch.setattr(rows, "PAGE", tmp_path / "MEASURED.md")
    monkeypatch.setattr(command._Measured, "_network", lambda *_: (_ for _ in ()).throw(RuntimeError("no network")))
    only = ["--only", "mlp/2-4-1/infer/*/1", "--threads", "1"]
    assert command.main([*only, "--minutes", "0"]) == 0
    assert tables.read(rows.Row, rows.TABLE) == []
    assert command.main(only) == 0
    assert [row.cell for row in tables.read(rows.Row, rows.TABLE)] == [f"mlp/2-4-1/infer/{batch}/1" for batch in (1, 16, 64)]
    assert "RuntimeError: no network" in rows.PAGE.read_text()
    capsys.readouterr()
    assert command.main([*only, "--list"]) == 0
    assert capsys.readouterr().out.strip() == ""
