"""Writers that are killed, and writers at work, beside one target."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from packify.artefact import leftovers
from packify.artefact.folder import check_target, written_at_once
from packify.artefact.leftovers import Workplace, clear_leftovers, own_workplace
from packify.core.errors import ArtefactError

_WRITER = """
import sys, time
from pathlib import Path
from packify.artefact.folder import written_at_once

with written_at_once(Path(sys.argv[1]), force=True) as fresh:
    (fresh / "model.safetensors").write_text("half")
    print("writing", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process in the middle of writing ``net``."""
    root = str(Path(leftovers.__file__).parents[2])
    command = [sys.executable, "-c", _WRITER, str(tmp_path / "net")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        yield process
        process.kill()


def _write(target: Path, text: str, force: bool = False) -> None:
    with written_at_once(target, force) as fresh:
        (fresh / "config.json").write_text(text)


def _everything(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
def test_what_a_killed_writer_left_goes_with_the_next_save(tmp_path: Path, writer: subprocess.Popen[str]) -> None:
    assert [name[-5:] for name in _everything(tmp_path)] == [".lock", ".part"]
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    _write(tmp_path / "other", "another target")
    assert len(_everything(tmp_path)) == 3
    _write(tmp_path / "net", "new")
    assert _everything(tmp_path) == ["net", "other"]


@pytest.mark.slow
def test_a_writer_at_work_keeps_what_is_its_own(tmp_path: Path, writer: subprocess.Popen[str]) -> None:
    working = _everything(tmp_path)
    _write(tmp_path / "net", "new")
    check_target(tmp_path / "net", force=True)
    assert _everything(tmp_path) == [*working, "net"]


@pytest.mark.slow
def test_a_stopped_writer_is_at_work(tmp_path: Path, writer: subprocess.Popen[str]) -> None:
    writer.send_signal(signal.SIGSTOP)
    clear_leftovers(tmp_path / "net")
    assert len(_everything(tmp_path)) == 2


def _killed(target: Path, *kinds: str) -> None:
    """What a writer leaves that is killed in the middle of a swap."""
    place = Workplace(target, "0123abcd")
    for kind in kinds:
        folder = getattr(place, kind)
        folder.mkdir()
        (folder / "config.json").write_text(kind)


def test_a_writer_killed_before_the_new_one_was_in_place_left_the_old_one(tmp_path: Path) -> None:
    _killed(tmp_path / "net", "old", "part")
    with pytest.raises(ArtefactError, match="exists already"):
        _write(tmp_path / "net", "new")
    assert _everything(tmp_path) == ["net"]
    assert (tmp_path / "net/config.json").read_text() == "old"


def test_a_writer_killed_after_the_new_one_was_in_place_left_only_rubbish(tmp_path: Path) -> None:
    _killed(tmp_path / "net", "old")
    (tmp_path / "net").mkdir()
    (tmp_path / "net/config.json").write_text("theirs")
    _write(tmp_path / "net", "new", force=True)
    assert _everything(tmp_path) == ["net"]
    assert (tmp_path / "net/config.json").read_text() == "new"


def test_names_that_only_look_alike_stay(tmp_path: Path) -> None:
    names = (
        ".net.0123abcd.part.bak",
        ".net.0123.part",
        ".network.0123abcd.part",
        "net.0123abcd.part",
        ".net.0123ABCD.old",
        ".nXt.0123abcd.old",
    )
    for name in names:
        (tmp_path / name).mkdir()
    _write(tmp_path / "net", "new")
    _write(tmp_path / "n.t", "new")
    assert _everything(tmp_path) == sorted([*names, "net", "n.t"])


def test_without_locks_nothing_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows, and on file systems that cannot lock."""
    _killed(tmp_path / "net", "part")
    monkeypatch.setattr(leftovers, "fcntl", None)
    _write(tmp_path / "net", "new")
    assert ".net.0123abcd.part" in _everything(tmp_path)
    assert (tmp_path / "net/config.json").read_text() == "new"


def test_a_lock_that_was_taken_for_a_leftover_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = iter(["00000000", "11111111"])
    monkeypatch.setattr(leftovers.secrets, "token_hex", lambda _: next(tokens))
    locked = leftovers._locked

    def taken(handle: int) -> bool | None:
        (tmp_path / ".net.00000000.lock").unlink(missing_ok=True)
        return locked(handle)

    monkeypatch.setattr(leftovers, "_locked", taken)
    with own_workplace(tmp_path / "net") as place:
        assert place.tag == "11111111"
    assert _everything(tmp_path) == []
