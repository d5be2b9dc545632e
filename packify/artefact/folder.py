"""Writing a folder all at once: whoever looks sees the old one or the whole new one, and a failure leaves nothing behind."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from packify.artefact.config import CARD_FILE, CONFIG_FILE, INDEX_FILE, SHARD_FILE, WEIGHTS_FILE
from packify.artefact.leftovers import Workplace, clear_leftovers, own_workplace
from packify.core.errors import ArtefactError


def path_of(folder: Any) -> Path:
    """`folder` as a path.

    Raises:
        ArtefactError: it is none.
    """
    try:
        return Path(folder)
    except TypeError as error:
        raise ArtefactError("folder", found=repr(folder), why="an artefact is a folder", fix='pass its path: "my-ensemble"') from error


def check_target(target: str | Path, force: bool = False) -> Path:
    """The target of a save, if it can be written: worth asking before hours of work. What killed writers left beside it goes.

    Raises:
        ArtefactError: something is there and `force` is not given, or `force` would delete what packify did not write.
    """
    path = Path(target).expanduser()
    if not path.name or path.name == "..":
        path = path.resolve()
    clear_leftovers(path)
    if not os.path.lexists(path):
        return path
    if not force:
        raise ArtefactError(
            str(path),
            found="it exists already",
            why="an artefact never replaces something unasked",
            fix="choose another folder, or pass --force (force=True)",
        )
    strangers = _strangers(path)
    if strangers:
        raise ArtefactError(
            str(path),
            found=strangers,
            why="force replaces artefacts only, so that no other file is ever deleted",
            fix="choose another folder, or remove that one yourself",
        )
    return path


@contextlib.contextmanager
def written_at_once(target: Path, force: bool) -> Iterator[Path]:
    """A new folder beside `target` to write into; it becomes `target` when the block ends well, and goes when it does not.

    Raises:
        ArtefactError: the disk is full, or the place may not be written.
    """
    target = check_target(target, force)
    made: list[Path] = []
    try:
        _make_parents(target.parent, made)
        with own_workplace(target) as place:
            try:
                place.part.mkdir()
                yield place.part
                _sync(place.part)
                _swap(place, force)
            except BaseException:
                shutil.rmtree(place.part, ignore_errors=True)
                raise
    except BaseException as error:
        for parent in reversed(made):
            with contextlib.suppress(OSError):
                parent.rmdir()
        if isinstance(error, OSError):
            raise not_written(target, error) from error
        raise


def _make_parents(folder: Path, made: list[Path]) -> None:
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    for parent in reversed(missing):
        parent.mkdir()
        made.append(parent)


def _swap(place: Workplace, force: bool) -> None:
    target = place.target
    if not os.path.lexists(target):
        _retrying_nothing(place.part.rename, target)
        _sync_folder(target.parent)
        return
    check_target(target, force)  # it may have appeared, or changed, while the new one was written
    target.rename(place.old)
    try:
        place.part.rename(target)
    except BaseException:
        place.old.rename(target)
        raise
    _sync_folder(target.parent)
    shutil.rmtree(place.old, ignore_errors=True)


def _retrying_nothing(rename: Callable[[Path], object], target: Path) -> None:
    try:
        rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            check_target(target)
        raise


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system can
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _strangers(path: Path) -> str:
    if path.is_symlink() or not path.is_dir():
        return "it is no folder"
    try:
        names = {entry.name for entry in path.iterdir()}
    except OSError as error:
        return str(error)
    other = sorted(name for name in names - {CONFIG_FILE, WEIGHTS_FILE, INDEX_FILE} if not SHARD_FILE.fullmatch(name))
    if CARD_FILE in other and is_own_card(path / CARD_FILE):
        other.remove(CARD_FILE)
    if other:
        return f"a folder with {', '.join(other[:5])}"
    return "" if not names or CONFIG_FILE in names else f"a folder without {CONFIG_FILE}"


def is_own_card(path: Path) -> bool:
    """Whether a README.md is a card of an artefact, perhaps edited: it begins with metadata that name packify."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        return CARD_MARK in file.read(4096)
    return False


CARD_MARK = b"library_name: packify"


def not_written(target: Path, error: OSError) -> ArtefactError:
    """What to tell when the operating system refuses to write."""
    """What to tell when the operating system refuses to write."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return ArtefactError(
        str(target),
        found=str(error),
        why="the disk is full" if full else "the folder cannot be written",
        fix="free some space, or choose another disk with --out" if full else "check the permissions, or choose another folder with --out",
    )
