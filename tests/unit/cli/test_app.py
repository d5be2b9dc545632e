from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from packify.cli import app
from packify.cli.failures import debugging
from packify.core.errors import ArtefactError
from packify.core.version import __version__

_IMPORTS = """
import sys
from packify.cli import app
app({args!r}, standalone_mode=False)
print(sorted({{'torch', 'timm', 'torchvision'}} & set(sys.modules)), file=sys.stderr)
"""


_COMPLETION = """
import sys
from packify.cli import main
sys.argv = ['packify']
try:
    main()
finally:
    print('torch' in sys.modules, file=sys.stderr)
"""


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ | environment)


@pytest.mark.parametrize("args", [["--help"], ["convert", "--help"], ["verify", "-h"], ["--version"]])
def test_help_imports_no_torch(args: list[str]) -> None:
    done = _python(_IMPORTS.format(args=args))
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "[]"
    assert done.stdout.strip()


def test_completion_imports_no_torch() -> None:
    done = _python(_COMPLETION, _PACKIFY_COMPLETE="complete_bash", COMP_WORDS="packify con", COMP_CWORD="1")
    assert "convert" in done.stdout
    assert done.stderr.strip() == "False"


@pytest.mark.slow
def test_help_is_fast() -> None:
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        _python("from packify.cli import app; app(['--help'])")
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 1.0  # 0.2 s on an idle machine; a shared one is given room


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"packify {__version__}\n")


@pytest.mark.parametrize(
    "args",
    [
        ["convert"],
        ["convert", "resnet18"],
        ["convert", "resnet18", "--alpha", "two", "--M", "4"],
        ["convert", "resnet18", "--alpha", "2", "--M", "4", "--gamma-policy", "other"],
        ["convert", "resnet18", "--alpha", "2", "--M", "0"],
        ["convert", "resnet18", "--alpha", "0", "--M", "4"],
        ["convert", "resnet18", "--alpha", "nan", "--M", "4"],
        ["convert", "resnet18", "--alpha", "2", "--M", "4", "--input-size", "224"],
        ["convert", "resnet18", "--alpha", "2", "--M", "4", "--input-size", "3y4"],
        ["convert", "hf-hub:timm/resnet18", "--alpha", "2", "--M", "4"],
        ["convert", "./resnet18", "--alpha", "2", "--M", "4"],
        ["convert", "resnet18", "--alpha", "2", "--M", "4", "--arg", "depth"],
        ["nonsense"],
    ],
)
def test_a_wrong_command_line_is_two(args: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_artefact_that_is_not_there_is_one(tmp_path: Path) -> None:
    for command in (["verify", str(tmp_path / "none")], ["extract", str(tmp_path / "none"), "--member", "0"]):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 1
        assert "no such folder" in result.stderr


@pytest.mark.parametrize("args", [["--debug", "verify", "none"], ["verify", "none", "--debug"]])
def test_debug_may_come_first_or_last(args: list[str]) -> None:
    result = CliRunner().invoke(app, args)
    debugging.set(False)
    assert isinstance(result.exception, ArtefactError)
