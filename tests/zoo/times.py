"""How long the zoo took, kept beside the table and not checked in."""

from __future__ import annotations

import statistics
from dataclasses import astuple
from pathlib import Path

from tests.zoo.convert import Seconds
from tests.zoo.tables import FOLDER

TIMES = FOLDER / "times.tsv"


def read(path: Path = TIMES) -> dict[str, Seconds]:
    """Seconds by label: what the run that is going on, or the last one, has done."""
    if not path.exists():
        return {}
    rows = (line.split("\t") for line in path.read_text().splitlines())
    return {label: Seconds(*map(float, values)) for label, *values in rows}


def append(label: str, seconds: Seconds, path: Path = TIMES) -> None:
    with path.open("a") as file:
        file.write("\t".join([label, *(f"{value:.3f}" for value in astuple(seconds))]) + "\n")


def summary(times: dict[str, Seconds]) -> list[str]:
    """Median, 95th percentile and worst of each step, and the slowest ten, as lines."""
    done = {label: seconds for label, seconds in times.items() if seconds.record_graphs}
    if len(done) < 2:
        return ["too few times to sum up"]
    lines = [f"seconds over {len(done)} architectures: median, 95th percentile, worst"]
    for name, values in (
        ("record", [one.record_graphs for one in done.values()]),
        ("slim (one configuration)", [one.slim for one in done.values()]),
        ("record and slim", [one.convert for one in done.values()]),
        ("build three packed graphs", [one.pack for one in done.values()]),
    ):
        high = statistics.quantiles(values, n=20)[-1]
        lines.append(f"  {name:26} {statistics.median(values):7.2f} {high:7.2f} {max(values):7.2f}")
    lines.append("slowest to record and slim:")
    slowest = sorted(done.items(), key=lambda item: -item[1].convert)[:10]
    lines += [f"  {label:48} {one.record_graphs:7.2f} + {one.slim:.2f}" for label, one in slowest]
    return lines
