from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.commands import run

NET = ("bench", "nets.py:conv", "--alpha", "2", "--M", "2", "--batch", "2", "--budget-s", "0.3", "--threads", "1")


@pytest.mark.slow
def test_the_table_and_the_picture(project: Path) -> None:
    pytest.importorskip("matplotlib")
    result = run(*NET, "--train", "--plot", "bench.png")
    assert result.exit_code == 0, result.output
    for text in (
        "inference, batch 2",
        "training, batch 2",
        "packed tuned",
        "packed as converted",
        "vmap",
        "Deep Ensemble",
        "packed tuned: ",
        "x Mult-Adds",
    ):
        assert text in result.stdout
    assert (project / "bench.png").stat().st_size > 1000


def test_json_is_one_document(project: Path) -> None:
    found = json.loads(run(*NET, "--json").stdout)
    assert {line["mode"] for line in found["lines"]} == {"infer"}
    assert found["threads"] == 1


def test_too_few_rounds_are_said(project: Path) -> None:
    said = "fewer than 5 rounds: a swing of the machine may decide; pass a larger --budget-s than 0.001"
    assert said in run(*NET, "--budget-s", "0.001").stdout


def test_wrong_arguments_are_one_clear_line(project: Path) -> None:
    for options, said in (
        (("--device", "tpu9"), "no such device"),
        (("--batch", "0"), "at least one sample"),
        (("--plot", "x.txt"), "png"),
    ):
        result = run(*NET, *options)
        assert result.exit_code != 0
        assert said in result.stderr, result.stderr
