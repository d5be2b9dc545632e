from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from packify.artefact.folder import check_target, written_at_once
from packify.core.errors import ArtefactError


def _write(target: Path, text: str, force: bool = False) -> None:
    with written_at_once(target, force) as fresh:
        (fresh / "config.json").write_text(text)
        (fresh / "model.safetensors").write_text(text)


def _everything(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_folder_and_its_parents(tmp_path: Path) -> None:
    _write(tmp_path / "a" / "b" / "net", "new")
    assert _everything(tmp_path / "a" / "b") == ["net"]
    assert (tmp_path / "a/b/net/config.json").read_text() == "new"


def test_what_exists_is_refused(tmp_path: Path) -> None:
    _write(tmp_path / "net", "old")
    with pytest.raises(ArtefactError, match="--force"):
        check_target(tmp_path / "net")
    with pytest.raises(ArtefactError, match="exists already"):
        _write(tmp_path / "net", "new")
    assert (tmp_path / "net/config.json").read_text() == "old"


def test_force_replaces_an_artefact(tmp_path: Path) -> None:
    _write(tmp_path / "net", "old")
    _write(tmp_path / "net", "new", force=True)
    assert (tmp_path / "net/config.json").read_text() == "new"
    assert _everything(tmp_path) == ["net"]


def test_force_deletes_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/me.png").touch()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    for name in ("photos", "file", "link"):
        with pytest.raises(ArtefactError, match="no other file is ever deleted"):
            check_target(tmp_path / name, force=True)
    assert (tmp_path / "photos/me.png").exists()


@pytest.mark.parametrize("failure", [ValueError("no"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing_behind(tmp_path: Path, failure: BaseException) -> None:
    def fail() -> None:
        with written_at_once(tmp_path / "a/net", force=False) as fresh:
            (fresh / "config.json").touch()
            raise failure

    with pytest.raises(type(failure)):
        fail()
    assert _everything(tmp_path) == []


def test_a_failure_keeps_the_old_one(tmp_path: Path) -> None:
    _write(tmp_path / "net", "old")
    with pytest.raises(ArtefactError, match="disk is full"), written_at_once(tmp_path / "net", force=True):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert _everything(tmp_path) == ["net"]
    assert (tmp_path / "net/config.json").read_text() == "old"


def test_a_failing_swap_puts_the_old_one_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path / "net", "old")
    rename = Path.rename

    def failing(self: Path, target: Any) -> Path:
        if self.name.endswith(".part"):
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(ArtefactError, match="Input/output error"):
        _write(tmp_path / "net", "new", force=True)
    assert _everything(tmp_path) == ["net"]
    assert (tmp_path / "net/config.json").read_text() == "old"


def test_what_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    def write() -> None:
        with written_at_once(tmp_path / "net", force=False) as fresh:
            (fresh / "config.json").touch()
            (tmp_path / "net").mkdir()
            (tmp_path / "net" / "theirs").touch()

    with pytest.raises(ArtefactError, match="exists already"):
        write()
    assert _everything(tmp_path) == ["net"]


def test_a_place_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtefactError, match="cannot be written"):
        _write(tmp_path / "file" / "net", "new")


def test_modes_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        _write(tmp_path / "net", "new")
    finally:
        os.umask(old)
    assert (tmp_path / "net").stat().st_mode & 0o777 == 0o755
