"""The paper's other ensembles over the zoo: ``python -m tests.zoo.methods --update`` writes methods.tsv and METHODS.md.

Every architecture is recorded once and made into each method's network on the meta device. A row says what it has of the reference's
parameters, or why it cannot be. ``--families`` takes one of each family, ``--only PATTERN`` some names; other rows stay.
"""

from __future__ import annotations

import argparse
import csv
import fnmatch
import sys
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace

import torch

from packify.core.method_specs import BatchEnsembleSpec, MasksemblesSpec, MethodSpec, MimoSpec
from packify.ensembles.methods.making import make
from packify.ensembles.methods.member import Source
from packify.ensembles.recording import record
from tests.zoo.architectures import Architecture, architectures, build
from tests.zoo.convert import one_line
from tests.zoo.outcome import FOLDER

TABLE, PAGE = FOLDER / "methods.tsv", FOLDER / "METHODS.md"
SPECS: dict[str, MethodSpec] = {"batch_ensemble": BatchEnsembleSpec(4), "masksembles": MasksemblesSpec(4), "mimo": MimoSpec(4)}


@dataclass(frozen=True)
class Row:
    """One architecture: per method the parameters over the reference's, or the reason why not."""

    label: str
    family: str
    batch_ensemble: str = ""
    masksembles: str = ""
    mimo: str = ""


def convert(one: Architecture) -> Row:
    """The row of one architecture. Never raises: an error is an outcome."""
    row = Row(one.label, one.family)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            built = build(one)
            recording = record(built.model, built.example_inputs)
            nowhere = Source(recording.graphs.root, built.example_inputs, recording.graphs, {}, recording.table)
            return replace(row, **{name: _outcome(spec, nowhere) for name, spec in SPECS.items()})
    except Exception as error:
        return replace(row, **dict.fromkeys(SPECS, f"{type(error).__name__}: {one_line(error)}"))


def _outcome(spec: MethodSpec, source: Source) -> str:
    try:
        report = make(spec, source, average="none").report
    except Exception as error:
        return f"{type(error).__name__}: {one_line(error)}"
    return f"{report.params / report.reference_params:.4f}"


def read() -> dict[str, Row]:
    """The checked-in rows by label."""
    if not TABLE.exists():
        return {}
    with TABLE.open(newline="") as file:
        return {row["label"]: Row(**row) for row in csv.DictReader(file, delimiter="\t")}


def write(rows: Iterable[Row]) -> None:
    """Write table and page."""
    ordered = sorted(rows, key=lambda row: row.label)
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(asdict, ordered))
    PAGE.write_text(page(ordered))


def page(rows: list[Row]) -> str:
    """The page as Markdown: totals, and the reasons with how often each was met."""
    parts = ["# The paper's other ensembles over the zoo\n", __doc__.strip().partition("\n\n")[2] + "\n"]
    parts.append(f"{len(rows)} architectures.\n\n| method | converted |\n|---|---|")
    parts += [f"| {name} | {sum(_converted(getattr(row, name)) for row in rows)} |" for name in SPECS]
    for name in SPECS:
        reasons = Counter(getattr(row, name) for row in rows if not _converted(getattr(row, name)))
        parts.append(f"\n## {name}: not converted\n")
        parts += [f"- {count} x {reason}" for reason, count in reasons.most_common()] or ["None."]
    return "\n".join(parts) + "\n"


def _converted(outcome: str) -> bool:
    return outcome.replace(".", "").isdigit()


def main(arguments: list[str] | None = None) -> int:
    """Run the zoo."""
    parser = argparse.ArgumentParser(prog="python -m tests.zoo.methods")
    parser.add_argument("--update", action="store_true", required=True, help="convert on the meta device and write both files")
    parser.add_argument("--only", action="append", metavar="PATTERN", help="only names, labels or families that match")
    parser.add_argument("--families", action="store_true", help="only one architecture of each family")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    chosen = architectures()
    if given.only:
        chosen = [
            one for one in chosen if any(fnmatch.fnmatch(text, glob) for glob in given.only for text in (one.name, one.label, one.family))
        ]
    if given.families:
        chosen = list({(one.library, one.family): one for one in reversed(chosen)}.values())
    rows = read()
    for one in chosen:
        rows[one.label] = convert(one)
        sys.stderr.write(f"{rows[one.label]}\n")
        write(rows.values())
    return 0


if __name__ == "__main__":
    sys.exit(main())
