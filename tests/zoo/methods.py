"""The paper's other ensembles over the zoo: ``python -m tests.zoo.methods --update`` writes methods.tsv and METHODS.md.

Every architecture is recorded once and made into each method's network on the meta device, and a member of it into a network of its own.
A row says what the ensemble has of the reference's parameters, and for Masksembles what its first member alone has, or why it cannot be.
``--families`` takes one of each family, ``--only PATTERN`` some names; other rows stay. ``--resume`` leaves out what has a row, with
``--families`` every family that has one. A row is written as soon as it is made, and two runs may write side by side.
"""

from __future__ import annotations

import argparse
import fcntl
import fnmatch
import gc
import resource
import signal
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from packify.core.method_specs import BatchEnsembleSpec, MasksemblesSpec, MethodSpec, MimoSpec
from packify.ensembles.methods.making import make
from packify.ensembles.methods.member import Source
from packify.ensembles.recording import record
from tests.zoo import outcome, tables
from tests.zoo.architectures import Architecture, architectures, build
from tests.zoo.convert import one_line
from tests.zoo.tables import FOLDER

TABLE, PAGE = FOLDER / "methods.tsv", FOLDER / "METHODS.md"
_MEMORY_BYTES = 14_000_000_000
_CPU_SECONDS_EACH = 300
SPECS: dict[str, MethodSpec] = {"batch_ensemble": BatchEnsembleSpec(4), "masksembles": MasksemblesSpec(4), "mimo": MimoSpec(4)}


@dataclass(frozen=True)
class Row:
    """One architecture: per method the parameters over the reference's, or the reason why not.

    Attributes:
        part: the submodule that is converted; empty for the whole model.
        slim: parameters of the first member of Masksembles alone, over the reference's.
    """

    label: str
    family: str
    part: str = ""
    batch_ensemble: str = ""
    masksembles: str = ""
    slim: str = ""
    mimo: str = ""

    @property
    def architecture(self) -> Architecture:
        library, _, name = self.label.partition(":")
        return Architecture(library, name, self.family, self.part)


def convert(one: Architecture) -> Row:
    """The row of one architecture: what a method cannot do is an outcome; time and memory that ran out are errors, and none."""
    row = Row(one.label, one.family, one.part)
    gc.collect()
    gc.disable()  # graphs are many small objects that live as long as the conversion
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            built = build(one)
            recording = record(built.model, built.example_inputs)
            nowhere = Source(recording.graphs.root, built.example_inputs, recording.graphs, {}, recording.table)
            found = {name: _outcome(spec, nowhere) for name, spec in SPECS.items()}
            return replace(row, **{name: said for name, (said, _) in found.items()}, slim=found["masksembles"][1])
    except MemoryError:
        raise
    except Exception as error:
        return replace(row, **dict.fromkeys(SPECS, _said(error)))
    finally:
        gc.enable()


def _outcome(spec: MethodSpec, source: Source) -> tuple[str, str]:
    """The ensemble's parameters over the reference's, and its first member's, or why there is none."""
    try:
        network = make(spec, source, average="none")
        report = network.report
        alone = sum(parameter.numel() for parameter in network.extract(0).parameters()) if network.separable else 0
        if network.separable and alone != report.member_params[0]:
            raise ArithmeticError(f"{alone} parameters of a member alone, {report.member_params[0]} predicted")
    except MemoryError:
        raise
    except Exception as error:
        return _said(error), ""
    return f"{report.params / report.reference_params:.4f}", f"{alone / report.reference_params:.4f}"


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)}"


def read() -> dict[str, Row]:
    """The checked-in rows by label."""
    return {row.label: row for row in tables.read(Row, TABLE)}


def write(rows: Iterable[Row]) -> None:
    """Write table and page; an interrupted run leaves the old ones."""
    ordered = sorted(rows, key=lambda row: row.label)
    tables.write(Row, ordered, TABLE)
    PAGE.write_text(page(ordered))


def page(rows: list[Row]) -> str:
    """The page as Markdown: totals, and the reasons with how often each was met."""
    parts = ["# The paper's other ensembles over the zoo\n", __doc__.strip().partition("\n\n")[2] + "\n"]
    parts.append(f"{len(rows)} architectures of {len({row.family for row in rows})} families, M = 4.\n")
    parts.append("| method | converted | parameters over the reference's: median | most |\n|---|---|---|---|")
    for name in SPECS:
        ratios = [float(getattr(row, name)) for row in rows if _converted(getattr(row, name))]
        parts.append(
            f"| {name} | {len(ratios)} | {statistics.median(ratios):.4f} | {max(ratios):.4f} |" if ratios else f"| {name} | 0 | | |"
        )
    slim = [float(row.slim) for row in rows if row.slim]
    parts += [f"\nA member of Masksembles alone: {statistics.median(slim):.4f} of the reference (median)."] if slim else []
    for name in SPECS:
        reasons = Counter(getattr(row, name) for row in rows if not _converted(getattr(row, name)))
        parts.append(f"\n## {name}: not converted\n")
        parts += [f"- {count} x {reason}" for reason, count in reasons.most_common()] or ["None."]
    return "\n".join(parts) + "\n"


def _converted(outcome: str) -> bool:
    return outcome.replace(".", "").isdigit()


def smallest(every: Iterable[Architecture]) -> list[Architecture]:
    """Of each family the architecture with the smallest graph."""
    nodes = {label: row.nodes for label, row in outcome.read().items() if row.nodes}
    found: dict[tuple[str, str], Architecture] = {}
    for one in sorted(every, key=lambda one: nodes.get(one.label, sys.maxsize)):
        found.setdefault((one.library, one.family), one)
    return list(found.values())


class Late(BaseException):
    """An architecture has had its time; whatever handles errors on the way does not handle this."""


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """One architecture never holds up the others; CPU seconds, so that other work on the machine does not count.

    Raises:
        Late: after so many.
    """

    def late(*_: object) -> None:
        raise Late(f"not done after {seconds:g} CPU seconds")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def add(row: Row) -> None:
    """Put a row into the files as they are now: another run may go through other names."""
    with Path(__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        write({**read(), row.label: row}.values())


def undone(chosen: Iterable[Architecture], families: bool) -> list[Architecture]:
    """What has no row, or whose family has none."""
    rows = read()
    done = {(row.architecture.library, row.family) for row in rows.values()}
    return [one for one in chosen if ((one.library, one.family) not in done if families else one.label not in rows)]


def main(arguments: list[str] | None = None) -> int:
    """Run the zoo."""
    parser = argparse.ArgumentParser(prog="python -m tests.zoo.methods")
    parser.add_argument("--update", action="store_true", required=True, help="convert on the meta device and write both files")
    parser.add_argument("--only", action="append", metavar="PATTERN", help="only names, labels or families that match")
    parser.add_argument("--families", action="store_true", help="only one architecture of each family: that with the smallest graph")
    parser.add_argument("--resume", action="store_true", help="leave out what has a row")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    chosen = architectures()
    if given.only:
        chosen = [
            one for one in chosen if any(fnmatch.fnmatch(text, glob) for glob in given.only for text in (one.name, one.label, one.family))
        ]
    if given.families:
        chosen = smallest(chosen)
    if given.resume:
        chosen = undone(chosen, given.families)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    failed = 0
    for number, one in enumerate(chosen, 1):
        began = time.process_time()
        try:
            with alarm(_CPU_SECONDS_EACH):
                row = convert(one)
        except (Late, MemoryError) as error:
            failed += 1
            sys.stderr.write(f"{number} of {len(chosen)}, {one.label}: no row: {type(error).__name__}: {error}\n")
            continue
        sys.stderr.write(f"{number} of {len(chosen)}, {time.process_time() - began:.1f} s: {row}\n")
        add(row)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
