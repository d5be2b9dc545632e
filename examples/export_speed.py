"""How fast exported files are: a packed network against the single network, exported the same way.

    python examples/export_speed.py resnet50 vit_small_patch16_224 convnext_tiny --size 128 --to eager,pt2,onnx,aoti

Every figure is CPU time of a call at batch 1 on one thread, the middle of calls that take turns, so that a busy machine slows all alike.
Files are kept in `--files`, so that a run that is stopped goes on.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import packify
from packify import sources
from packify.exporting.formats import open_file

STRATEGIES = ("grouped", "in turn", "per layer", "batched")


def runners(name: str, given: argparse.Namespace) -> dict[tuple[str, str], Callable[[], Any]]:
    """What is timed, by format and by what is in it: ``"single"``, or a strategy."""
    torch.manual_seed(0)
    reference = sources.resolve(name, input_size=(3, given.size, given.size))
    x = torch.randn(1, 3, given.size, given.size)
    single = reference.model.eval()
    packed = packify.pack(single, torch.randn(2, *x.shape[1:]), alpha=given.alpha, num_estimators=given.M, average="probs").eval()
    found: dict[tuple[str, str], Callable[[], Any]] = {}
    for to in given.to.split(","):
        for what in ("single", *given.strategies.split(",")):
            network = single if what == "single" else packed
            if to == "eager":
                found[to, what] = eager(network, what, x)
                continue
            path = given.files / f"{name}-{given.size}-{what.replace(' ', '-')}-{to}.{'onnx' if to == 'onnx' else 'pt2'}"
            if not path.exists():
                strategy = None if what == "single" else what
                packify.export(network, path, to=to, example_inputs=x, batch=1, outputs=["mean"], strategy=strategy, check=False)
            run = open_file(to, path, ["probabilities"])
            found[to, what] = lambda run=run: run([x])
    return found


def eager(network: nn.Module, what: str, x: torch.Tensor) -> Callable[[], Any]:
    """A call of the network itself."""

    def run() -> Any:
        if what != "single":
            network.strategy = what
        return network(x)

    return run


def measure(runs: dict[tuple[str, str], Callable[[], Any]], seconds: float) -> dict[tuple[str, str], float]:
    """Milliseconds of CPU time of each, in turns."""
    times: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    with torch.inference_mode():
        for run in runs.values():
            run()
        began = time.process_time()
        while time.process_time() - began < seconds or len(next(iter(times.values()))) < 5:
            for key, run in runs.items():
                start = time.process_time()
                run()
                times[key].append(1e3 * (time.process_time() - start))
    return {key: statistics.median(each) for key, each in times.items()}


def main(argv: list[str] | None = None) -> dict[str, dict[tuple[str, str], float]]:
    """Export, time and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="+")
    for option, default in (("size", 128), ("alpha", 2.0), ("M", 4), ("seconds", 20.0)):
        parser.add_argument(f"--{option}", type=type(default), default=default)
    parser.add_argument("--to", default="eager,pt2,onnx")
    parser.add_argument("--strategies", default=",".join(STRATEGIES[:2]))
    parser.add_argument("--files", type=Path, default=Path("exported"))
    given = parser.parse_args(argv)
    given.files.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found = {}
    for name in given.model:
        found[name] = measured = measure(runners(name, given), given.seconds)
        ways = given.strategies.split(",")
        table = Table("", "single, ms", *ways, title=f"{name}, 3x{given.size}x{given.size}: packed over single")
        for to in given.to.split(","):
            single = measured[to, "single"]
            table.add_row(to, f"{single:.1f}", *(f"{measured[to, way] / single:.2f}" for way in ways))
        Console().print(table)
    return found


if __name__ == "__main__":
    main()
