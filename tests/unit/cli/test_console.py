from __future__ import annotations

import json
import sys

import pytest

from packify.cli.console import print_json, steps


def test_what_a_step_prints_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with steps(1) as step, step("build", "building"):
        sys.stdout.write("from a user's factory\n")
    print_json({"a": 1})
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"a": 1}
    assert captured.err == "from a user's factory\n"
    assert list(step.seconds) == ["build"]
