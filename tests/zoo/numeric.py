"""The laws with numbers: one small member of every family, at alpha / M = 1/4, on the smallest input that the network takes."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import packify
from packify.sources.resolving import resolve
from tests.zoo import tables
from tests.zoo.architectures import BATCH, Architecture, architectures
from tests.zoo.convert import one_line
from tests.zoo.outcome import Outcome
from tests.zoo.outcome import read as read_outcomes
from tests.zoo.tables import FOLDER

TABLE = FOLDER / "numeric.tsv"
ALPHA, ESTIMATORS = 0.5, 2
SIZES = (64, 96, 128, 160, 192, 224, 256)


@dataclass(frozen=True)
class Check:
    """One row: a family, the member of it that was checked, and whether the laws hold."""

    family: str
    name: str
    input: str = ""
    outcome: str = "holds"
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.input}: {self.outcome} {self.reason}"


def read(path: Path = TABLE) -> dict[str, Check]:
    """The table by family; empty if there is none."""
    return {row.family: row for row in tables.read(Check, path)}


def write(rows: Iterable[Check], path: Path = TABLE) -> None:
    """Replace the table, sorted by family."""
    tables.write(Check, sorted(rows, key=lambda row: row.family), path)


def representatives(rows: Iterable[Outcome]) -> list[Outcome]:
    """The lightest member of each family (nodes times parameters) in the table of outcomes, lightest first."""
    best: dict[tuple[str, str], Outcome] = {}
    for row in sorted(rows, key=_weight, reverse=True):
        if row.nodes and not row.family.startswith("quantization."):
            best[row.library, row.family] = row
    return sorted(best.values(), key=_weight)


def installed_representatives() -> list[Outcome]:
    """Those that the installed timm and torchvision know: the table was made with later ones than the oldest that will do."""
    known = {one.label for one in architectures()}
    return representatives(row for row in read_outcomes().values() if row.label in known)


def _weight(row: Outcome) -> tuple[int, str]:
    return (row.nodes + 200) * (row.params + 10**6), row.name


def check(one: Architecture, *, gamma: int = 1) -> Check:
    """Build, pack and verify: equality in both modes, independence, one training step. Never raises."""
    row = Check(f"{one.library}:{one.family}", one.name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a network's own code warns of is no outcome
        return _checked(one, row, gamma)


def _checked(one: Architecture, row: Check, gamma: int) -> Check:
    try:
        model, inputs = small(one)
        row = replace(row, input=shapes_of(inputs))
        packify.verify(packed(model, inputs, gamma=gamma))
    except Exception as error:
        return replace(row, outcome=type(error).__name__, reason=one_line(error))
    return row


def shapes_of(inputs: Any) -> str:
    """The shapes of inputs without their batch: ``"3x64x64, 3x64x64"``."""
    return ", ".join("x".join(map(str, tensor.shape[1:])) for tensor in (inputs if isinstance(inputs, tuple) else (inputs,)))


def packed(model: nn.Module, inputs: Any, *, gamma: int = 1) -> packify.PackedNetwork:
    """A small packed network of a reference, with subgroups as small as they come."""
    return packify.pack(model, inputs, alpha=ALPHA, num_estimators=ESTIMATORS, gamma=gamma, min_channels_per_group=1)


def small(one: Architecture) -> tuple[nn.Module, Any]:
    """The reference with real weights, built for the smallest input size that it runs on."""
    problem: Exception | None = None
    for model, inputs in _candidates(one):
        try:
            with torch.no_grad():
                for training in (False, True):  # auxiliary heads, which only run in training, may need a larger input
                    model.train(training)(*(inputs if isinstance(inputs, tuple) else (inputs,)))
        except Exception as error:
            problem = error
            continue
        return model, inputs
    raise problem or LookupError("no input size to try")


def _candidates(one: Architecture) -> Iterator[tuple[nn.Module, Any]]:
    if one.family == "optical_flow.raft":
        yield resolve(one.label).model, (torch.randn(BATCH, 3, 128, 128), torch.randn(BATCH, 3, 128, 128))
        return
    published = resolve(one.label, device="meta").input_size or ()
    if one.part:
        part = resolve(one.label).model.get_submodule(one.part)
        yield from ((part, torch.randn(BATCH, 3, size, size)) for size in (128, 320))
        return
    for size in (*(size for size in SIZES if size < published[-1]), 0):
        shape = (*published[:-2], size, size) if size else published
        try:
            model = resolve(one.label, input_size=shape).model if size else resolve(one.label).model
        except packify.PackifyError:
            continue
        yield model, torch.randn(BATCH, *shape)
