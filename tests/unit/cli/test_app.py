from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from packify.cli import app
from packify.cli.console import print_json, steps
from packify.cli.failures import Stopped, debugging, guarded
from packify.core.errors import ArtefactError, BudgetError, LawBroken, PackError, PackifyError, SourceError, SpecError, TraceError
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


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SpecError("alpha"), 2),
        (SourceError("MODEL"), 2),
        (BudgetError("--max-params"), 2),
        (TraceError("net"), 1),
        (PackError("net"), 1),
        (LawBroken("layer1"), 1),
        (ArtefactError("net"), 1),
        (KeyboardInterrupt(), 130),
        (Stopped(signal.SIGTERM), 143),
        (OSError(errno.ENOSPC, "No space left on device"), 1),
        (RuntimeError("surprise"), 1),
        (MemoryError(), 1),
    ],
)
def test_exit_codes(error: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise error

    with pytest.raises(typer.Exit) as stopped:
        guarded(command)()
    assert stopped.value.exit_code == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.strip()
    assert "Traceback" not in captured.err


def test_debug_shows_the_traceback() -> None:
    def command() -> None:
        raise PackError("layer1")

    debugging.set(True)
    try:
        with pytest.raises(PackError):
            guarded(command)()
    finally:
        debugging.set(False)


@pytest.mark.parametrize("args", [["--debug", "verify", "none"], ["verify", "none", "--debug"]])
def test_debug_may_come_first_or_last(args: list[str]) -> None:
    result = CliRunner().invoke(app, args)
    debugging.set(False)
    assert isinstance(result.exception, ArtefactError)


def test_messages_keep_markup_and_have_four_parts(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise PackifyError("layer1[0].conv", found="[red]shape[/red]", why="w", fix="f")

    with pytest.raises(typer.Exit):
        guarded(command)()
    assert capsys.readouterr().err == "error: layer1[0].conv\n  found: [red]shape[/red]\n  why: w\n  what to do: f\n"


def test_what_a_step_prints_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with steps(1) as step, step("build", "building"):
        sys.stdout.write("from a user's factory\n")
    print_json({"a": 1})
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"a": 1}
    assert captured.err == "from a user's factory\n"
    assert list(step.seconds) == ["build"]


def test_ops() -> None:
    plain = CliRunner().invoke(app, ["ops"])
    assert plain.exit_code == 0, plain.output
    assert "conv2d" in plain.stdout
    document: dict[str, Any] = json.loads(CliRunner().invoke(app, ["ops", "--json"]).stdout)
    assert "conv2d" in {name for names in document["families"].values() for name in names}
    assert sum(map(len, document["families"].values())) == document["operators"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "--alpha"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 12 bytes"), "--alpha"),
        (TraceError("net", fix="keep it whole with leaves=[ItsType]"), "import packify"),
    ],
)
def test_what_an_error_says(error: Exception, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise error

    with pytest.raises(typer.Exit):
        guarded(command)()
    assert said in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk to write to")
def test_a_full_disk_behind_stdout() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "packify", "ops"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "the disk is full" in done.stderr
    assert "did not foresee" not in done.stderr
