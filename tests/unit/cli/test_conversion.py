from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

import packify
from packify.cli.conversion import Conversion, sections, show
from packify.core.report import Note


@pytest.fixture
def found() -> Conversion:
    torch.manual_seed(0)
    recording = packify.record(nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 2)), torch.randn(2, 5))
    options = {"alpha": 1.5, "num_estimators": 2}
    packed = recording.pack(**options, average="mean")
    return Conversion("own.py:net", "2x5", recording.budget(**options), packed.report, None, Path("there"), {"import": 1.25, "pack": 0.5})


def _shown(found: Conversion) -> str:
    console = Console(file=io.StringIO(), width=200)
    show(console, found)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_what_is_shown(found: Conversion) -> None:
    shown = _shown(found)
    for text in (
        "own.py:net",
        "alpha 1.5, M 2, gamma 1",
        "input 2x5",
        "rounded widths",
        "the mean over members",
        "there/",
        "1.8 s: import 1.25",
    ):
        assert text in shown
    assert "The laws were not checked" in shown


def test_laws_that_were_checked_are_told(found: Conversion) -> None:
    laws = packify.Verification(1e-16, 0.0, 1e-15, 7, 2, "float64", "2x5")
    assert "checked on 7 tensors, float64, inputs 2x5" in _shown(Conversion(**{**vars(found), "verification": laws}))


def test_the_document_is_json(found: Conversion) -> None:
    document = json.loads(json.dumps(found.to_dict(), default=str))
    assert document["verification"] is None
    assert document["seconds"] == {"import": 1.25, "pack": 0.5}
    assert document["networks"].keys() == {"reference", "member", "packed", "deep_ensemble"}


def test_relayouts_say_what_they_copy(found: Conversion) -> None:
    assert json.loads(json.dumps(found.to_dict(), default=str))["report"]["relayout_bytes"] == 0
    assert not [title for title, _ in sections(found.report) if "relayouts" in title]
    found.report.relayouts, found.report.relayout_bytes = [Note("fc", "", "members from axis 1 to 0", "")], 1_200_000
    assert "relayouts, 1.2 MB a sample (1)" in _shown(found)


def test_empty_sections_are_left_out(found: Conversion) -> None:
    titles = [title for title, _ in sections(found.report)]
    assert "rounded widths" in titles
    assert "lowered gamma" not in titles
