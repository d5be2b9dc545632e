"""What a writer keeps beside its target while it works, and what is left of it when it is killed.

A writer with the tag ``0f3a91c2`` fills ``.net.0f3a91c2.part``, moves the artefact that it replaces to ``.net.0f3a91c2.old``, and holds a
lock on the file ``.net.0f3a91c2.lock``. The system lets go of a lock when its process ends, in whatever way it ends.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nobody can tell a writer at work from one that is gone, so nothing is ever removed
    fcntl = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Workplace:
    """The three paths of one writer beside its target."""

    target: Path
    tag: str

    @property
    def part(self) -> Path:
        """The new artefact while it is written."""
        return self._beside("part")

    @property
    def old(self) -> Path:
        """The artefact that is being replaced."""
        return self._beside("old")

    @property
    def lock(self) -> Path:
        """A file that is locked while the writer lives."""
        return self._beside("lock")

    def _beside(self, kind: str) -> Path:
        return self.target.with_name(f".{self.target.name}.{self.tag}.{kind}")


@contextlib.contextmanager
def own_workplace(target: Path) -> Iterator[Workplace]:
    """A workplace that others leave alone until the block ends or the process does."""
    while True:
        place = Workplace(target, secrets.token_hex(4))
        handle = os.open(place.lock, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if _locked(handle) is not False and _is_there(place.lock, handle):
            break
        os.close(handle)  # somebody took the new file for a leftover
    try:
        yield place
    finally:
        place.lock.unlink(missing_ok=True)
        os.close(handle)


def clear_leftovers(target: Path) -> None:
    """Remove what writers that are gone have left beside `target`; those at work keep theirs.

    A writer that was killed between moving the old artefact away and moving the new one in has left none: the old one comes back.
    """
    with contextlib.suppress(OSError):
        found = {match[1] for entry in os.scandir(target.parent) if (match := _names(target).fullmatch(entry.name))}
        for tag in sorted(found):
            _clear(Workplace(target, tag))


def _clear(place: Workplace) -> None:
    handle = os.open(place.lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not (_locked(handle) and _is_there(place.lock, handle)):
            return
        if place.old.is_dir() and not os.path.lexists(place.target):
            place.old.rename(place.target)
        for folder in (place.part, place.old):
            shutil.rmtree(folder, ignore_errors=True)
        place.lock.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _names(target: Path) -> re.Pattern[str]:
    return re.compile(rf"\.{re.escape(target.name)}\.([0-9a-f]{{8}})\.(?:part|old|lock)")


def _locked(handle: int) -> bool | None:
    """Whether the lock on an open file is now held here; None where the file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (OSError, AttributeError):
        return None
    return True


def _is_there(path: Path, handle: int) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False
