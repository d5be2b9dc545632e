"""How fast exported files are: a packed network against the single network, exported the same way.

    python examples/export_speed.py resnet50 vit_small_patch16_224 convnext_tiny --to eager,onnx,pt2,aoti

A cell is a network on a target, `resnet50/onnx`. It is timed at batch 1 on one thread in rounds: in each, every way of running has one
call, and its CPU time is divided by the single network's in the same round, so that a busy machine slows all alike; the figure is the
middle of the rounds. Cells that are done are in `--out`, files that are written in `--files`: a run that is stopped goes on, and
`--only 'resnet50/*'` does some of the cells.
"""

from __future__ import annotations

import argparse
import copy
import fnmatch
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

import packify
from packify import sources
from packify.exporting.formats import FORMATS, open_file

TARGETS = ("eager", *FORMATS)
Cell = dict[str, dict[str, float]]


def runners(name: str, to: str, given: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    """What is timed in a cell: ``"single"``, and the packed network by each strategy."""
    torch.manual_seed(0)
    single = sources.resolve(name, input_size=(3, given.size, given.size)).model.eval()
    x = torch.randn(1, 3, given.size, given.size)
    packed = packify.pack(single, torch.randn(2, *x.shape[1:]), alpha=given.alpha, num_estimators=given.M, average="probs").eval()
    found: dict[str, Callable[[], Any]] = {}
    for what in ("single", *given.strategies.split(",")):
        network = single if what == "single" else copy.deepcopy(packed)
        strategy = None if what == "single" else what
        if to == "eager":
            if strategy:
                network.strategy = strategy
            found[what] = lambda network=network: network(x)
            continue
        settings = f"{name}-{given.size}-a{given.alpha:g}-M{given.M}-{what.replace(' ', '-')}-{to}"
        path = given.files / f"{settings.replace('/', '_')}.{'onnx' if to == 'onnx' else 'pt2'}"
        if not path.exists():
            packify.export(network, path, to=to, example_inputs=x, batch=1, outputs=["mean"], strategy=strategy, check=False)
        run = open_file(to, path, ["probabilities"])
        found[what] = lambda run=run: run([x])
    return found


def measure(runs: Mapping[str, Callable[[], Any]], rounds: int) -> Cell:
    """Milliseconds of CPU time of each way, and what that is over the single network's: medians over rounds, in turning order."""
    times: dict[str, list[float]] = {what: [] for what in runs}
    with torch.inference_mode():
        for number in range(-1, rounds):  # one round to warm up
            for what in list(runs) if number % 2 else reversed(runs):
                start = time.process_time()
                runs[what]()
                if number >= 0:
                    times[what].append(1e3 * (time.process_time() - start))
    return {
        what: {
            "ms": round(statistics.median(own), 3),
            "ratio": round(statistics.median(one / single for one, single in zip(own, times["single"], strict=True)), 3),
        }
        for what, own in times.items()
    }


def table(cells: Mapping[str, Cell]) -> str:
    """The cells as a table in Markdown: the single network's milliseconds, and each strategy over it, the fastest in bold."""
    strategies = list(dict.fromkeys(what for cell in cells.values() for what in cell if what != "single"))
    lines = [f"| network | target | single, ms | {' | '.join(strategies)} |", "|---" * (3 + len(strategies)) + "|"]
    for key, cell in cells.items():
        name, _, to = key.rpartition("/")
        best = min(one["ratio"] for what, one in cell.items() if what != "single")
        ratios = [cell.get(what, {}).get("ratio") for what in strategies]
        shown = ["" if one is None else f"**{one:.2f}**" if one == best else f"{one:.2f}" for one in ratios]
        lines.append(f"| {name} | {to} | {cell['single']['ms']:.1f} | {' | '.join(shown)} |")
    return "\n".join(lines)


def known(path: Path, settings: Mapping[str, Any]) -> dict[str, Cell]:
    """The cells that a run before this one has done."""
    if not path.exists():
        return {}
    said = json.loads(path.read_text())
    if said["settings"] != settings:
        sys.exit(f"{path} was measured with {said['settings']}, and this run is for {dict(settings)}: choose another --out")
    cells: dict[str, Cell] = said["cells"]
    return cells


def main(argv: list[str] | None = None) -> dict[str, Cell]:
    """Export, time, and print the table of all cells that are done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="+")
    for option, default in (("size", 224), ("alpha", 2.0), ("M", 4), ("rounds", 20)):
        parser.add_argument(f"--{option}", type=type(default), default=default)
    parser.add_argument("--to", default=",".join(TARGETS), help="some of %(default)s")
    parser.add_argument("--strategies", default="grouped,in turn,per layer", help="how members are run in the packed network's files")
    parser.add_argument("--only", action="append", metavar="PATTERN", help="cells that match: 'resnet50/*', '*/onnx'")
    parser.add_argument("--files", type=Path, default=Path("exported"), help="where files are kept")
    parser.add_argument("--out", type=Path, default=Path("export_speed.json"), help="where cells are kept")
    given = parser.parse_args(argv)
    unknown = [to for to in given.to.split(",") if to not in TARGETS]
    if unknown:
        parser.error(f"--to {unknown[0]}: targets are {', '.join(TARGETS)}")
    given.files.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    settings = {name: vars(given)[name] for name in ("size", "alpha", "M", "strategies", "rounds")} | {"torch": torch.__version__}
    cells = known(given.out, settings)
    for key in (f"{name}/{to}" for name in given.model for to in given.to.split(",")):
        if key in cells or (given.only and not any(fnmatch.fnmatch(key, one) for one in given.only)):
            continue
        began = time.monotonic()
        cells[key] = measure(runners(*key.rsplit("/", 1), given), given.rounds)
        fresh = given.out.with_name(f".{given.out.name}.new")
        fresh.write_text(json.dumps({"settings": settings, "cells": cells}, indent=1))
        fresh.replace(given.out)
        sys.stderr.write(f"{key}: {time.monotonic() - began:.0f} s\n")
    sys.stdout.write(table(cells) + "\n" if cells else "no cell is done\n")
    return cells


if __name__ == "__main__":
    main()
