"""The rows of the table of measurements, and the page that sums them up."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean

import torch

from packify.ensembles.benchmarking import Bench, Line
from packify.execution.choices import device_name
from tests.bench.networks import Cell

FOLDER = Path(__file__).parent
TABLE, PAGE = FOLDER / "measured.tsv", FOLDER / "MEASURED.md"
_BY_HAND = ("grouped", "in turn", "vmap", "streams", "cuda graph")
_HEAD = """# Measured by `python -m tests.bench`

One line for a network, spec, mode, batch and number of threads: all contenders by turns, medians in ms, from `measured.tsv`.

- The best by hand is the fastest of grouped, in turn and vmap, on GPUs also of streams and of a CUDA graph, in either memory format;
  compiled / it: the same among what is compiled.
- x single, x Mult-Adds: the tuned network's time over that of the single network in its faster format, and over the Mult-Adds ratio.
- Of what is written by hand, ways that take 2 times the fastest at first, and 1.4 times in the end, are left out from round to round;
  rounds: of the single network, the tuned one and the best by hand, the least.

"""
_COLUMNS = (
    *("cell", "single", "as converted", "tuned", "best by hand", "tuned / it", "by fastest calls"),
    *("tuned x single", "x Mult-Adds", "compiled / it", "rounds"),
)


@dataclass(frozen=True)
class Row:
    """One contender of one cell on one machine; without time where it did not run.

    Attributes:
        machine: processor, and the cores that the run could use; or the GPU. With the dtype of autocast, where there is one.
        torch: its version.
        clock: ``"wall"``, or ``"cpu"`` for the CPU time of the process.
        cell: the label of what was measured.
        contender, memory_format: what ran.
        ms, least: the median and the fastest call; 0 where it did not run.
        spread: half of the distance between the quartiles, as a share of the median.
        rounds: how often it was timed.
        to_single, to_mult_adds: see `Line`.
        note: why it did not run, or was left out.
    """

    machine: str
    torch: str
    clock: str
    cell: str
    contender: str
    memory_format: str
    ms: float
    least: float
    spread: float
    rounds: int
    to_single: float
    to_mult_adds: float
    note: str


def rows_of(cell: Cell, found: Bench, machine: str, clock: str) -> list[Row]:
    """What was measured in one cell."""
    return [_row(cell.label, line, (machine, found.torch, clock)) for line in found.lines]


def _row(label: str, line: Line, where: tuple[str, str, str]) -> Row:
    ms, note = 1e3 * (line.seconds or 0.0), " ".join(line.note.split())
    values = 1e3 * line.least, line.spread, line.rounds, line.to_single, line.to_mult_adds
    return Row(*where, label, line.contender, line.memory_format, ms, *values, note)


def failed(cell: Cell, machine: str, why: str) -> Row:
    """A cell that could not be measured at all."""
    return Row(machine, torch.__version__, "-", cell.label, "-", "-", 0.0, 0.0, 0.0, 0, 0.0, 0.0, " ".join(why.split()))


def machine_name(device: torch.device, cores: int) -> str:
    """The GPU; or the processor, by the name that the system has for it, and how many cores are used."""
    if device.type != "cpu":
        return device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {cores} cores"


def page(rows: Iterable[Row]) -> str:
    """The table as Markdown, a section for each machine."""
    sections: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        sections.setdefault(f"{row.machine}, torch {row.torch}, {row.clock} time", {}).setdefault(row.cell, []).append(row)
    text = [_HEAD]
    for machine, by_cell in sections.items():
        text += [f"## {machine}\n", _joined(_COLUMNS), "|---" * len(_COLUMNS) + "|"]
        text += [*(_joined([cell, *_values(found)]) for cell, found in by_cell.items()), "", *_in_all(by_cell.values())]
    return "\n".join(text)


def _in_all(cells: Iterable[list[Row]]) -> list[str]:
    """What single cells on a machine whose speed changes cannot tell: the geometric means of the ratios of all."""
    whole = [found for found in map(_Found, cells) if found.whole]
    if not whole:
        return []
    ratios = {
        "tuned over the best by hand": [(one.tuned, one.hand) for one in whole],
        "as converted over in turn": [(one.converted, one.in_turn) for one in whole],
        "compiled over the best compiled by hand": [(one.compiled, one.hand_compiled) for one in whole],
    }
    lines = [f"In all {len(whole)} cells, geometric means by medians and by fastest calls:", ""]
    for name, pairs in ratios.items():
        both = [(one, other) for one, other in pairs if one is not None and other is not None]
        if both:
            medians, least = (geometric_mean(values) for values in ([a.ms / b.ms for a, b in both], [a.least / b.least for a, b in both]))
            lines.append(f"- {name}: {medians:.3f} and {least:.3f} ({len(both)} cells)")
    return [*lines, ""]


def _joined(values: Iterable[str]) -> str:
    return "| " + " | ".join(values) + " |"


class _Found:
    """The rows of one cell that its line tells about, each the fastest of its kind; None where none ran."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = [row for row in rows if row.ms]
        self.single, self.converted, self.tuned = map(self._best, ("single", "packed as converted", "packed tuned"))
        self.hand, self.in_turn, self.compiled = self._best(*_BY_HAND), self._best("in turn"), self._best("packed compiled")
        self.hand_compiled = self._best(*(f"{name} compiled" for name in _BY_HAND))
        self.whole = None not in (self.single, self.converted, self.tuned, self.hand)

    def _best(self, *names: str) -> Row | None:
        return min((row for row in self.rows if row.contender in names), key=lambda row: row.ms, default=None)


def _values(rows: list[Row]) -> list[str]:
    """Of one cell, or why there are none."""
    found = _Found(rows)
    single, converted, tuned, hand = found.single, found.converted, found.tuned, found.hand
    if single is None or hand is None or tuned is None or converted is None:
        return [next((row.note for row in rows if row.note), "not measured")[:160].replace("|", "/")] + [""] * (len(_COLUMNS) - 2)
    times = [f"{single.ms:.2f}", f"{converted.ms:.2f}", f"{tuned.ms:.2f} {tuned.note}".rstrip()]
    times.append(f"{hand.ms:.2f} {hand.contender}, {hand.memory_format}")
    ratios = [tuned.ms / hand.ms, tuned.least / hand.least, tuned.to_single, tuned.to_mult_adds]
    among_compiled = f"{found.compiled.ms / found.hand_compiled.ms:.2f}" if found.compiled and found.hand_compiled else "-"
    return [*times, *(f"{one:.2f}" for one in ratios), among_compiled, str(min(one.rounds for one in (single, hand, tuned)))]
