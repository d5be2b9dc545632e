"""Comparing two tables of what converts."""

from __future__ import annotations

from dataclasses import replace

from tests.zoo.compare import changed, lost
from tests.zoo.outcome import Outcome

_ROW = Outcome("timm", "resnet", "resnet50", half=0.25, half_gamma=0.125)


def test_equal_tables_have_lost_nothing() -> None:
    assert lost({_ROW.label: _ROW}, {_ROW.label: replace(_ROW, half=0.2501, half_gamma=0.1)}) == []


def test_what_is_lost_is_named() -> None:
    label = _ROW.label
    assert lost({label: _ROW}, {}) == ["timm:resnet50: has no row"]
    assert lost({label: _ROW}, {label: replace(_ROW, outcome="TraceError", reason="why")}) == ["timm:resnet50: TraceError: why"]
    assert lost({label: _ROW}, {label: replace(_ROW, half=0.3)}) == ["timm:resnet50: half 0.2500 -> 0.3000"]
    assert lost({label: _ROW}, {label: replace(_ROW, fallbacks="1 x LSTM")}) == ["timm:resnet50: falls back: 1 x LSTM"]


def test_columns_that_differ_are_listed() -> None:
    assert changed({_ROW.label: _ROW}, {_ROW.label: replace(_ROW, pinned=3)}, "pinned") == ["timm:resnet50: 0 -> 3"]
