"""`packify budget`, `packify fit` and `packify sweep` over the examples. PACKIFY_UPDATE_GOLDEN=1 rewrites the golden files."""

from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from packify.cli import app

EXAMPLES = Path(__file__).parents[3] / "examples"
GOLDEN = Path(__file__).parent / "golden"
COMMANDS = {
    "budget": ("budget", "cifar.py:lenet", "--alpha", "2", "--M", "4"),
    "budget-per-layer": (
        "budget",
        "cifar.py:lenet",
        "--alpha",
        "2",
        "--M",
        "4",
        "--gamma",
        "2",
        "--gamma-policy",
        "uniform",
        "--per-layer",
    ),
    "budget-torchinfo": ("budget", "cifar.py:lenet", "--alpha", "2", "--M", "4", "--convention", "torchinfo", "--dtype", "bfloat16"),
    "fit": ("fit", "cifar.py:mlp", "--max-params", "1.0x", "--max-mult-adds", "1M", "--M", "2,4"),
    "fit-nothing": ("fit", "cifar.py:mlp", "--max-params", "1.0x", "--max-mult-adds", "10", "--M", "4"),
    "fit-memory": ("fit", "cifar.py:mlp", "--max-training-memory", "20MB", "--batch-size", "32", "--M", "4", "--gamma", "1"),
    "sweep": ("sweep", "cifar.py:mlp", "--alpha", "1,1.5,2", "--M", "2,4", "--gamma", "1,2", "--gamma-policy", "both"),
}


def run(*args: str) -> Result:
    return CliRunner().invoke(app, args)


@pytest.fixture(autouse=True)
def _in_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)


@pytest.mark.parametrize("name", COMMANDS)
def test_golden_output(name: str) -> None:
    result = run(*COMMANDS[name])
    assert result.exit_code == (1 if name == "fit-nothing" else 0), result.output
    assert result.stderr == ""
    golden = GOLDEN / f"{name}.txt"
    printed = "\n".join(line.rstrip() for line in result.stdout.splitlines()) + "\n"
    if os.environ.get("PACKIFY_UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(printed, encoding="utf-8")
    assert printed == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_json_is_one_document_and_nothing_else(name: str) -> None:
    result = run(*COMMANDS[name], "--json")
    document = json.loads(result.stdout)
    assert result.stderr == ""
    assert document["model"].startswith("cifar.py:")


def test_json_says_the_same_as_python() -> None:
    document = json.loads(run(*COMMANDS["budget"], "--json").stdout)
    assert document["reference"]["params"] == 62006
    assert document["reference"]["mult_adds"] == 651720
    assert document["packed"]["params"] == 4 * document["member"]["params"]
    assert sum(layer["params"] for layer in document["layers"]) == document["packed"]["params"]


def test_the_printed_columns_add_up() -> None:
    printed = run(*COMMANDS["budget-per-layer"]).stdout
    rows = [re.split(r"\s{2,}", line.strip()) for line in printed.splitlines() if re.match(r" (conv|fc)\d", line)]
    total = re.search(r" total\s+([\d,]+)\s+([\d,]+)", printed)
    assert len(rows) == 5
    for column, whole in ((-3, total[1]), (-2, total[2])):
        assert sum(int(row[column].replace(",", "")) for row in rows) == int(whole.replace(",", ""))


def test_sweep_writes_a_table_and_a_picture(tmp_path: Path) -> None:
    result = run(*COMMANDS["sweep"], "--csv", str(tmp_path / "s.csv"), "--plot", str(tmp_path / "s.png"))
    assert result.exit_code == 0, result.output
    assert [line.split(": ")[0] for line in result.stderr.splitlines()] == ["written", "written"]
    assert len(list(csv.DictReader((tmp_path / "s.csv").read_text().splitlines()))) == 3 * 2 * 3
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("budget", "cifar.py:lenet", "--alpha", "0", "--M", "4"), 2, "alpha"),
        (("budget", "cifar.py:lenet", "--alpha", "2", "--M", "0"), 2, "num_estimators"),
        (("budget", "cifar.py:lenet", "--alpha", "2", "--M", "4", "--dtype", "int8"), 2, "dtype"),
        (("budget", "cifar.py:lenet", "--alpha", "2", "--M", "4", "--convention", "flops"), 2, "convention"),
        (("budget", "cifar.py:lenet", "--M", "4"), 2, "--alpha"),
        (
            ("budget", "cifar.py:conv3x3", "--alpha", "2", "--M", "4", "--arg", "in_channels=3", "--arg", "out_channels=8"),
            2,
            "--input-size",
        ),
        (("budget", "cifar.py:lenet", "--alpha", "2", "--M", "4", "--input-size", "3x4x4"), 1, "does not run"),
        (("fit", "cifar.py:lenet"), 2, "without a limit"),
        (("fit", "cifar.py:lenet", "--max-params", "12Q"), 2, "'Q' is not a unit"),
        (("fit", "cifar.py:lenet", "--max-params", "1.0x", "--min-alpha", "3", "--max-alpha", "2"), 2, "it is empty"),
        (("fit", "cifar.py:lenet", "--max-params", "1.0x", "--M", "two"), 2, "whole numbers"),
        (("sweep", "cifar.py:lenet", "--alpha", ",", "--M", "2"), 2, "numbers with commas"),
        (("sweep", "cifar.py:lenet", "--alpha", "1", "--M", "2.5"), 2, "whole numbers"),
        (("sweep", "cifar.py:lenet", "--alpha", "1", "--M", "2", "--plot", "there.xyz"), 2, "png, pdf or svg"),
        (("sweep", "cifar.py:lenet", "--alpha", "1", "--M", "2", "--csv", "no/such/folder.csv"), 2, "cannot be written"),
    ],
    ids=lambda value: " ".join(value[:1]) if isinstance(value, tuple) else "",
)
def test_wrong_input_is_one_clear_message(args: tuple[str, ...], code: int, says: str) -> None:
    result = run(*args)
    assert result.exit_code == code, result.output
    assert says in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
