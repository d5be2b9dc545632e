from __future__ import annotations

import io

import torch
from rich.console import Console
from torch import nn

import packify
from packify.cli.tables import layers_table, networks_table, notes_text, size
from packify.core.report import Note


def _printed(renderable: object) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def _budget() -> packify.Budget:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    return packify.budget(model, torch.zeros(2, 4), alpha=2, num_estimators=2)


def test_sizes() -> None:
    assert [size(value) for value in (0, 999, 14_250, 102_400_000, 3_580_000_000)] == ["0 B", "999 B", "14.2 kB", "102.4 MB", "3.58 GB"]


def test_networks_side_by_side() -> None:
    printed = _printed(networks_table(_budget()))
    for text in ("reference", "one member", "packed", "Deep Ensemble of 2", "parameters", "Mult-Adds", "activations, kept for backward"):
        assert text in printed
    kept, in_turn = (
        next(line.split() for line in printed.splitlines() if text in line) for text in (", kept for backward ", "backward, in turn")
    )
    assert kept[4:6] == in_turn[5:7]  # the reference keeps the same
    assert in_turn[7:10] == in_turn[10:13]  # the packed network what one member keeps
    row = next(line for line in printed.splitlines() if "parameters" in line)
    assert row.split() == ["parameters", "58", "58", "1.00x", "116", "2.00x", "116", "2.00x"]


def test_layers_add_up_to_the_footer() -> None:
    lines = _printed(layers_table(_budget())).splitlines()
    assert any(line.split()[:2] == ["0", "linear"] for line in lines)
    assert lines[-1].split() == ["total", "116", "96", "100.0%"] or "116" in "".join(lines[-3:])


def test_notes_with_one_reason_share_a_line() -> None:
    notes = [Note(f"layer{index}", "", "keeps its width", "classes") for index in range(5)]
    printed = notes_text("pinned", [*notes, Note("fc", "", "keeps its width", "")]).plain
    assert printed.splitlines() == [
        "pinned (6)",
        "  layer0, layer1, layer2 and 2 more: keeps its width - classes",
        "  fc: keeps its width",
    ]


def test_many_reasons_are_cut() -> None:
    printed = notes_text("notes", [Note("a", "", f"what {index}", "") for index in range(9)]).plain
    assert "and 3 more reasons: --json lists them all" in printed
