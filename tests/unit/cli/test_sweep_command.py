"""`packify sweep` over the examples."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.unit.cli.commands import check_golden, check_refused, document, run

pytestmark = pytest.mark.usefixtures("in_examples")
COMMAND = ("sweep", "cifar.py:mlp", "--alpha", "1,1.5,2", "--M", "2,4", "--gamma", "1,2", "--gamma-policy", "both")


def test_golden_output() -> None:
    check_golden("sweep", COMMAND)


def test_json_is_one_document_and_nothing_else() -> None:
    found = document(*COMMAND)
    assert found["model"] == "cifar.py:mlp"
    assert len(found["rows"]) == 3 * 2 * 3


@pytest.mark.slow
def test_a_table_and_a_picture(tmp_path: Path) -> None:
    result = run(*COMMAND, "--csv", str(tmp_path / "s.csv"), "--plot", str(tmp_path / "s.png"))
    assert result.exit_code == 0, result.output
    assert [line.split(": ")[0] for line in result.stderr.splitlines()] == ["written", "written"]
    assert len(list(csv.DictReader((tmp_path / "s.csv").read_text().splitlines()))) == 3 * 2 * 3
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("--alpha", ",", "--M", "2"), 2, "numbers with commas"),
        (("--alpha", "1", "--M", "2.5"), 2, "whole numbers"),
        (("--alpha", "1", "--M", "2", "--plot", "there.xyz"), 2, "png, pdf or svg"),
        (("--alpha", "1", "--M", "2", "--csv", "no/such/folder.csv"), 2, "cannot be written"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_input_is_one_clear_message(args: tuple[str, ...], code: int, says: str) -> None:
    check_refused(("sweep", "cifar.py:lenet", *args), code, says)
