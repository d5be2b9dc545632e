"""The zoo from the command line: ``python -m tests.zoo --update`` writes the table of what converts, ``--numeric`` checks the laws,
``--calls`` counts the calls of modules, ``--exports`` writes the table of files.
"""

from __future__ import annotations

import argparse
import fnmatch
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from packify.exporting.onnx_models import missing_libraries
from tests.zoo import calls, compare, exports, numeric, outcome, summary, times
from tests.zoo.architectures import Architecture, architectures
from tests.zoo.convert import SPECS, convert

_MEMORY_BYTES = 14_000_000_000
_SECONDS_EACH = 300
_SAVE_EVERY_SECONDS = 10


def main(arguments: list[str] | None = None) -> int:
    """Run the zoo."""
    parser = argparse.ArgumentParser(prog="python -m tests.zoo", description=__doc__)
    parser.add_argument("--update", action="store_true", help="convert every architecture on the meta device and write outcomes.tsv")
    parser.add_argument("--numeric", action="store_true", help="check the laws on a small member of every family and write numeric.tsv")
    parser.add_argument("--calls", action="store_true", help="count the calls of modules in every family that holds in numeric.tsv")
    parser.add_argument("--exports", action="store_true", help="export a small member of every family and write exports.tsv")
    parser.add_argument("--page", action="store_true", help="write OUTCOMES.md from both tables, nothing else")
    parser.add_argument(
        "--compare", metavar="TABLE", help="say what is lost, wider or newly falls back in outcomes.tsv against a copy of it from before"
    )
    parser.add_argument("--resume", action="store_true", help="go on where the last run stopped")
    parser.add_argument("--only", action="append", metavar="PATTERN", help="only names, labels (timm:resnet50) or families that match")
    parser.add_argument("--again", action="store_true", help="only what has not converted, falls back or is heavy in the table")
    parser.add_argument("--quick", action="store_true", help="with --update: build the packed graph at (2, 4, 2) only")
    parser.add_argument("--families", action="store_true", help="only one architecture of each family")
    given = parser.parse_args(arguments)
    if not (given.update or given.numeric or given.calls or given.exports or given.page or given.compare):
        parser.error("pass --update, --numeric, --calls, --exports, --page or --compare")
    if given.exports and (missing := missing_libraries()):  # a row would lose the outcome that it has
        parser.error(f"--exports fills a column for onnx, which needs {', '.join(missing)}: pip install 'packify-torch[export]'")
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    torch.set_num_threads(1)
    console = Console(stderr=True)
    chosen = _chosen(architectures(), given.only, given.families)
    if given.again:
        known = outcome.read()
        troubled = {row.label for row in known.values() if not row.converted or row.fallbacks or row.heavy}
        chosen = [one for one in chosen if one.label in troubled]
    if given.update:
        whole = not (given.resume or given.only or given.again or given.families)
        _update(chosen, console, fresh=whole, resume=given.resume, quick=given.quick)
    if given.numeric:
        _by_family(numeric, chosen, console, resume=given.resume)
    if given.exports:
        _by_family(exports, chosen, console, resume=given.resume)
    if given.calls:
        return _calls({one.label for one in chosen}, console)
    summary.write()
    return _compare(Path(given.compare)) if given.compare else 0


def _chosen(every: list[Architecture], patterns: list[str] | None, families: bool) -> list[Architecture]:
    if patterns:
        matches = lambda one: any(fnmatch.fnmatch(text, glob) for glob in patterns for text in (one.name, one.label, one.family))  # noqa: E731
        every = list(filter(matches, every))
    if families:
        every = list({(one.library, one.family): one for one in reversed(every)}.values())
    return every


def _update(chosen: list[Architecture], console: Console, *, fresh: bool, resume: bool, quick: bool) -> None:
    if fresh:
        times.TIMES.unlink(missing_ok=True)
    valid = {one.label for one in architectures()}
    rows = {label: row for label, row in outcome.read().items() if label in valid}
    if resume:
        done = rows.keys() & times.read().keys()
        chosen = [one for one in chosen if one.label not in done]
    saved = time.monotonic()
    try:
        for one in _progress(_in_turns(chosen), console):
            with _alarm():
                row, seconds = convert(one, SPECS[1:2] if quick else SPECS)
            rows[one.label] = row
            times.append(one.label, seconds)
            if not row.converted:
                console.print(f"{row.label}: {row.outcome}: {row.reason}", markup=False, highlight=False)
            if time.monotonic() - saved > _SAVE_EVERY_SECONDS:
                outcome.write(rows.values())
                saved = time.monotonic()
    finally:
        outcome.write(rows.values())
    sys.stdout.write("\n".join([*summary.totals(rows.values()), *times.summary(times.read())]) + "\n")


def _by_family(table: Any, chosen: list[Architecture], console: Console, *, resume: bool) -> None:
    """Check a small member of each family, and write the table after every one; `table` is `numeric` or `exports`."""
    rows = table.read()
    for one in _progress(_lightest(chosen, rows if resume else {}), console):
        with _alarm():
            row = table.check(one)
        rows[row.family] = row
        table.write(rows.values())
        console.print(f"{one.label} {row}", markup=False, highlight=False)


def _lightest(chosen: list[Architecture], done: Container[str]) -> list[Architecture]:
    """One member of each family among those that are chosen, lightest first, without the families that are done."""
    wanted = {one.label for one in chosen}
    lightest = [row.architecture for row in numeric.representatives(row for row in outcome.read().values() if row.label in wanted)]
    return [one for one in lightest if f"{one.library}:{one.family}" not in done]


def _calls(wanted: set[str], console: Console) -> int:
    differing = 0
    for one in _progress([one for one in calls.families() if one.label in wanted], console):
        with _alarm():
            found = calls.difference(one)
        differing += bool(found)
        console.print(f"{one.label}: {found or 'as often and in the order of the reference'}", markup=False, highlight=False)
    return int(differing > 0)


def _compare(path: Path) -> int:
    before, after = outcome.read(path), outcome.read()
    for column in ("half", "half_gamma", "pinned", "rounded"):
        sys.stdout.write(f"{column}: {len(compare.changed(before, after, column))} of {len(before)} rows changed\n")
    worse = compare.lost(before, after)
    sys.stdout.write("\n".join([*worse, f"{len(worse)} lost, wider or with a new fallback"]) + "\n")
    return int(bool(worse))


def _in_turns(chosen: list[Architecture]) -> list[Architecture]:
    """The first of every family, then the second of every family: what fails, fails early."""
    turns: Counter[str] = Counter()
    order = []
    for one in chosen:
        turns[one.family] += 1
        order.append((turns[one.family], one))
    return [one for _, one in sorted(order, key=lambda item: item[0])]


def _progress(chosen: list[Architecture], console: Console) -> Iterator[Architecture]:
    """Each architecture under a progress bar on standard error; memory is given back in between."""
    columns = (TextColumn("{task.description:44}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(chosen))
        for one in chosen:
            progress.update(task, description=one.label)
            yield one
            progress.advance(task)


@contextmanager
def _alarm() -> Iterator[None]:
    """One architecture never holds up the others."""

    def late(*_: object) -> None:
        raise TimeoutError(f"not done after {_SECONDS_EACH} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(_SECONDS_EACH)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


if __name__ == "__main__":
    sys.exit(main())
