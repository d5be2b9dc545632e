"""`packify budget` over the examples."""

from __future__ import annotations

import re

import pytest

from tests.unit.cli.commands import check_golden, check_refused, document, run

pytestmark = pytest.mark.usefixtures("in_examples")
_LENET = ("budget", "cifar.py:lenet", "--alpha", "2", "--M", "4")
COMMANDS = {
    "budget": _LENET,
    "budget-per-layer": (*_LENET, "--gamma", "2", "--gamma-policy", "uniform", "--per-layer"),
    "budget-torchinfo": (*_LENET, "--convention", "torchinfo", "--dtype", "bfloat16"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_golden_output(name: str) -> None:
    check_golden(name, COMMANDS[name])


@pytest.mark.parametrize("name", COMMANDS)
def test_json_is_one_document_and_nothing_else(name: str) -> None:
    assert document(*COMMANDS[name])["model"] == "cifar.py:lenet"


def test_json_says_the_same_as_python() -> None:
    found = document(*COMMANDS["budget"])
    assert found["reference"]["params"] == 62006
    assert found["packed"]["training_bytes_in_turn"] == found["member"]["training_bytes"]
    assert found["reference"]["mult_adds"] == 651720
    assert found["packed"]["params"] == 4 * found["member"]["params"]
    assert sum(layer["params"] for layer in found["layers"]) == found["packed"]["params"]


def test_the_printed_columns_add_up() -> None:
    printed = run(*COMMANDS["budget-per-layer"]).stdout
    rows = [re.split(r"\s{2,}", line.strip()) for line in printed.splitlines() if re.match(r" (conv|fc)\d", line)]
    total = re.search(r" total\s+([\d,]+)\s+([\d,]+)", printed)
    assert len(rows) == 5
    for column, whole in ((-3, total[1]), (-2, total[2])):
        assert sum(int(row[column].replace(",", "")) for row in rows) == int(whole.replace(",", ""))


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("cifar.py:lenet", "--alpha", "0", "--M", "4"), 2, "alpha"),
        (("cifar.py:lenet", "--alpha", "2", "--M", "0"), 2, "num_estimators"),
        (("cifar.py:lenet", "--alpha", "2", "--M", "4", "--dtype", "int8"), 2, "dtype"),
        (("cifar.py:lenet", "--alpha", "2", "--M", "4", "--convention", "flops"), 2, "convention"),
        (("cifar.py:lenet", "--M", "4"), 2, "--alpha"),
        (("cifar.py:conv3x3", "--alpha", "2", "--M", "4", "--arg", "in_channels=3", "--arg", "out_channels=8"), 2, "--input-size"),
        (("cifar.py:lenet", "--alpha", "2", "--M", "4", "--input-size", "3x4x4"), 1, "does not run"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_input_is_one_clear_message(args: tuple[str, ...], code: int, says: str) -> None:
    check_refused(("budget", *args), code, says)
