from __future__ import annotations

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from packify.cli.failures import Stopped, debugging, guarded
from packify.core.errors import ArtefactError, BudgetError, LawBroken, PackError, PackifyError, SourceError, SpecError, TraceError


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


def test_messages_keep_markup_and_have_four_parts(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise PackifyError("layer1[0].conv", found="[red]shape[/red]", why="w", fix="f")

    with pytest.raises(typer.Exit):
        guarded(command)()
    assert capsys.readouterr().err == "error: layer1[0].conv\n  found: [red]shape[/red]\n  why: w\n  what to do: f\n"


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


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk to write to")
def test_a_full_disk_behind_stdout() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "packify", "ops"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "the disk is full" in done.stderr
    assert "did not foresee" not in done.stderr
