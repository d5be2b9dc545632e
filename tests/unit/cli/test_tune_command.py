from __future__ import annotations

import json
from pathlib import Path

import packify
from tests.unit.cli.commands import run

REFERENCE = ("--model", "nets.py:conv")


def test_tune_keeps_the_choice_in_the_artefact(converted: Path) -> None:
    result = run("tune", str(converted), *REFERENCE, "--batch", "1,4", "--budget-s", "0.3", "--threads", "1")
    assert result.exit_code == 0, result.output
    assert "in turn" in result.stdout
    kept = json.loads((converted / "config.json").read_text())["execution"]["choices"]
    assert [one["batch"] for one in kept] == [1, 4]
    assert run("verify", str(converted), *REFERENCE, "-q").exit_code == 0


def test_json_is_one_document(converted: Path) -> None:
    result = run("tune", str(converted), *REFERENCE, "--budget-s", "0.2", "--mode", "train", "--batch", "2", "--json")
    (found,) = json.loads(result.stdout)["tunings"]
    assert found["choice"]["mode"] == "train"
    assert result.stderr == ""


def test_wrong_arguments_are_one_clear_line(converted: Path) -> None:
    before = (converted / "config.json").read_bytes()
    for options, said in (
        (("--device", "tpu9"), "no such device"),
        (("--device", "meta"), "nothing is computed"),
        (("--batch", "0"), "at least one sample"),
        (("--batch", "many"), "whole numbers"),
        (("--budget-s", "0"), "seconds"),
    ):
        result = run("tune", str(converted), *REFERENCE, *options)
        assert result.exit_code != 0
        assert said in result.stderr, result.stderr
    assert (converted / "config.json").read_bytes() == before
    assert packify.artefact.read_config(converted).execution  # type: ignore[attr-defined]
