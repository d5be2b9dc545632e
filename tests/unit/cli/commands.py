"""Running the command line as a test does."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from packify.cli import app

EXAMPLES = Path(__file__).parents[3] / "examples"
_GOLDEN = Path(__file__).parent / "golden"


def run(*args: str) -> Result:
    """A command, in this process."""
    return CliRunner().invoke(app, args)


def check_golden(name: str, command: tuple[str, ...], code: int = 0) -> None:
    """It prints what ``golden/NAME.txt`` holds, and nothing to stderr; PACKIFY_UPDATE_GOLDEN=1 rewrites the file."""
    result = run(*command)
    assert result.exit_code == code, result.output
    assert result.stderr == ""
    golden = _GOLDEN / f"{name}.txt"
    printed = "\n".join(line.rstrip() for line in result.stdout.splitlines()) + "\n"
    if os.environ.get("PACKIFY_UPDATE_GOLDEN"):
        golden.write_text(printed, encoding="utf-8")
    assert printed == golden.read_text(encoding="utf-8")


def document(*command: str) -> dict[str, Any]:
    """The one JSON document that a command prints, and nothing to stderr."""
    result = run(*command, "--json")
    assert result.stderr == ""
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def check_refused(command: tuple[str, ...], code: int, says: str) -> None:
    """Wrong input is one clear message."""
    result = run(*command)
    assert result.exit_code == code, result.output
    assert says in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
