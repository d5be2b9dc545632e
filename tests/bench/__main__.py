"""Networks against what they replace, in bounded time: ``python -m tests.bench --minutes 60`` adds what is missing to the table.

A run that was stopped goes on where it was: what the table has of this machine and torch is not measured again.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import sys
import time
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from rich.console import Console

import packify
from packify.cli.device_inputs import inputs_like, require_device
from packify.ensembles.benchmarking import bench
from packify.execution.measuring import seconds_of
from tests.bench import rows
from tests.bench.networks import NETWORKS, Cell, cells
from tests.zoo import tables


def main(arguments: list[str] | None = None) -> int:
    """Measure."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", action="append", metavar="PATTERN", help="cells that match, such as 'resnet*/2-4-1/infer/16/1'")
    parser.add_argument("--threads", default="1,2", metavar="A,B,...", help="numbers of threads of a CPU (1,2)")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("--autocast", choices=("bfloat16", "float16"), help="compute in this dtype where torch does so by itself")
    parser.add_argument("--minutes", type=float, default=60.0, help="start no cell after this time (60)")
    parser.add_argument("--budget-s", type=float, default=20.0, help="seconds for each cell, at least (20)")
    parser.add_argument("--calls", type=float, default=200.0, help="and at least the time of so many calls of the single network (200)")
    parser.add_argument("--rounds", type=int, default=5, help="at least so many of those that are not left out as slow (5)")
    parser.add_argument("--most", type=float, metavar="G", help="leave out calls of more Mult-Adds (40 G; 4000 G on a GPU)")
    parser.add_argument("--compile", action="store_true", help="also everything compiled, which takes minutes for a cell")
    parser.add_argument("--cpu-time", action="store_true", help="CPU time of the process, not wall time: with one thread on a busy machine")
    parser.add_argument("--list", action="store_true", help="print what is missing, and measure nothing")
    given = parser.parse_args(arguments)
    device, console = require_device(given.device), Console(stderr=True)
    machine = rows.machine_name(device, os.cpu_count() or 1) + (f", {given.autocast} autocast" if given.autocast else "")
    table = tables.read(rows.Row, rows.TABLE)
    done = {row.cell for row in table if (row.machine, row.torch) == (machine, torch.__version__)}
    threads = [int(count) for count in given.threads.split(",")] if device.type == "cpu" else [0]
    wanted = [cell for cell in cells(threads, device.type) if cell.label not in done]
    wanted = [cell for cell in wanted if not given.only or any(fnmatch.fnmatch(cell.label, pattern) for pattern in given.only)]
    if given.list:
        Console().print("\n".join(cell.label for cell in wanted), highlight=False)
        return 0
    until = time.monotonic() + 60 * given.minutes
    measured = _Measured(given, device)
    for number, cell in enumerate(wanted, 1):
        if time.monotonic() > until:
            console.print(f"{len(wanted) - number + 1} of {len(wanted)} cells are left: run again")
            break
        began = time.monotonic()
        found = measured.rows(cell, machine)
        table = [*table, *found]
        if found:
            tables.write(rows.Row, table, rows.TABLE)
        console.print(f"{number} of {len(wanted)} {cell.label} {time.monotonic() - began:.0f} s" if found else f"{cell.label}: left out")
    rows.PAGE.write_text(rows.page(table))
    return 0


class _Measured:
    """Measures cells; a network that is the same as in the cell before is not packed again."""

    def __init__(self, given: argparse.Namespace, device: torch.device) -> None:
        self.given, self.device, self._last = given, device, ("", ())
        self._packed: Any = None

    def rows(self, cell: Cell, machine: str) -> Sequence[rows.Row]:
        """What one cell gives; nothing where its calls are too large for this run."""
        if cell.threads:
            torch.set_num_threads(cell.threads)
        dtype = getattr(torch, self.given.autocast or "float32")
        try:
            model, packed, budget = self._network(cell)
            most = self.given.most or (40.0 if self.device.type == "cpu" else 4000.0)
            if cell.batch * budget.reference.mult_adds > 1e9 * most / (3 if cell.mode == "train" else 1):
                return []
            x = inputs_like(packed, cell.batch, self.device, torch.float32)
            with torch.autocast(self.device.type, dtype, enabled=bool(self.given.autocast)):
                with torch.no_grad():
                    call = min(seconds_of(lambda: model(x), self.device) for _ in range(2)) * (3 if cell.mode == "train" else 1)
                found = bench(
                    model,
                    packed,
                    lambda _: x,
                    budget,
                    batches=[cell.batch],
                    modes=[cell.mode],
                    compiled=("single", "packed", "grouped", "in turn", "vmap") if self.given.compile else (),
                    budget_s=max(self.given.budget_s, self.given.calls * call),
                    least_rounds=self.given.rounds,
                    narrowing=True,
                    clock=time.process_time if self.given.cpu_time else time.perf_counter,
                )
        except Exception as error:  # one network that fails does not end the run
            return [rows.failed(cell, machine, f"{type(error).__name__}: {error}")]
        return rows.rows_of(cell, found, machine, "cpu" if self.given.cpu_time else "wall")

    def _network(self, cell: Cell) -> Any:
        if self._last != (cell.network, cell.spec):
            torch.manual_seed(0)
            model, x = NETWORKS[cell.network]()
            alpha, members, gamma = cell.spec
            numbers: dict[str, Any] = {"alpha": alpha, "num_estimators": members, "gamma": gamma}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", packify.AverageWarning)
                recording = packify.record(model, x)
                packed, budget = recording.pack(**numbers), recording.budget(**numbers)
            self._packed = model.to(self.device), packed.to(self.device), budget
            self._last = cell.network, cell.spec
        return self._packed


if __name__ == "__main__":
    sys.exit(main())
