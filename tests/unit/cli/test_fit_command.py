"""`packify fit` over the examples."""

from __future__ import annotations

import pytest

from tests.unit.cli.commands import check_golden, check_refused, document

pytestmark = pytest.mark.usefixtures("in_examples")
COMMANDS = {
    "fit": ("fit", "cifar.py:mlp", "--max-params", "1.0x", "--max-mult-adds", "1M", "--M", "2,4"),
    "fit-nothing": ("fit", "cifar.py:mlp", "--max-params", "1.0x", "--max-mult-adds", "10", "--M", "4"),
    "fit-memory": ("fit", "cifar.py:mlp", "--max-training-memory", "20MB", "--batch-size", "32", "--M", "4", "--gamma", "1"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_golden_output(name: str) -> None:
    check_golden(name, COMMANDS[name], code=1 if name == "fit-nothing" else 0)


@pytest.mark.parametrize("name", COMMANDS)
def test_json_is_one_document_and_nothing_else(name: str) -> None:
    assert document(*COMMANDS[name])["model"] == "cifar.py:mlp"


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        ((), 2, "without a limit"),
        (("--max-params", "12Q"), 2, "'Q' is not a unit"),
        (("--max-params", "1.0x", "--min-alpha", "3", "--max-alpha", "2"), 2, "it is empty"),
        (("--max-params", "1.0x", "--M", "two"), 2, "whole numbers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_input_is_one_clear_message(args: tuple[str, ...], code: int, says: str) -> None:
    check_refused(("fit", "cifar.py:lenet", *args), code, says)
