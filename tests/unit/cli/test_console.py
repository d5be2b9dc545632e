from __future__ import annotations

import gc
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


def test_imports_are_not_searched_for_garbage() -> None:
    with steps(2) as step:
        with step("import", "importing torch"):
            assert not gc.isenabled()
        assert gc.isenabled()
        with step("build", "building"):
            assert gc.isenabled()
        with pytest.raises(ImportError), step("import", "importing nothing"):
            raise ImportError
    assert gc.isenabled()
