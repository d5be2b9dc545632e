"""Where output goes: data to stdout, diagnostics and progress to stderr, and progress only on a terminal."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from packify.core.collecting import uncollected

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH_OF_A_FILE = 120


def out() -> Console:
    """Data: a report, a table, a path."""
    return _console(sys.stdout)


def err() -> Console:
    """Diagnostics."""
    return _console(sys.stderr)


def print_json(document: Any) -> None:
    """The one JSON document of a command that was asked for --json."""
    sys.stdout.write(json.dumps(document, indent=2, default=str) + "\n")
    sys.stdout.flush()


class Steps:
    """The steps of a command, with a spinner on a terminal's stderr, and the seconds that each took."""

    def __init__(self, progress: Any, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=total) if progress is not None else None
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str, doing: str) -> Iterator[None]:
        """One step; whatever a user's code prints meanwhile goes to stderr. What is imported is not searched for garbage meanwhile."""
        if self._progress is not None:
            self._progress.update(self._task, description=doing)
        began = time.perf_counter()
        with contextlib.redirect_stdout(sys.stderr), uncollected(name == "import"):
            yield
        self.seconds[name] = round(time.perf_counter() - began, 3)
        if self._progress is not None:
            self._progress.advance(self._task)


@contextlib.contextmanager
def steps(total: int, quiet: bool = False) -> Iterator[Steps]:
    """The progress of a command of `total` steps; silent when `quiet`, or when stderr is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield Steps(None, total)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn())
    # The report goes to stdout, so nothing of the progress stays behind; stdout is left alone for pipes.
    with Progress(*columns, console=err(), transient=True, redirect_stdout=False, redirect_stderr=False) as progress:
        yield Steps(progress, total)


def _console(file: Any) -> Console:
    from rich.console import Console

    return Console(file=file, width=None if file.isatty() else _WIDTH_OF_A_FILE, highlight=False, emoji=False)
