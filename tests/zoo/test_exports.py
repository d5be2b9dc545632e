"""Families as files, on the lightest ones; ``python -m tests.zoo --exports --resume`` goes on with the table."""

from __future__ import annotations

import sys

import pytest

from tests.zoo import exports, numeric
from tests.zoo.__main__ import main
from tests.zoo.outcome import Outcome

_LIGHTEST = numeric.installed_representatives()


@pytest.mark.slow
@pytest.mark.quick_cases(2)
@pytest.mark.families
@pytest.mark.parametrize("row", _LIGHTEST[:8], ids=lambda row: row.label)
def test_a_small_member_of_the_family_is_exported_to_pt2(row: Outcome) -> None:
    found = exports.check(row.architecture, ("pt2",))
    assert found.pt2 == "any batch", found.pt2_reason


def test_what_a_format_cannot_hold_says_why() -> None:
    rows = exports.read().values()
    assert rows
    for row in rows:
        assert all(outcome for outcome in (row.pt2, row.onnx))
        assert all(reason or outcome == "any batch" for outcome, reason in ((row.pt2, row.pt2_reason), (row.onnx, row.onnx_reason)))


def test_every_family_of_the_table_of_laws_is_named_alike() -> None:
    assert exports.read().keys() <= numeric.read().keys()


def test_without_the_libraries_of_a_column_no_row_is_touched(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    before = exports.TABLE.read_bytes()
    with pytest.raises(SystemExit) as caught:
        main(["--exports", "--only", "timm:resnet"])
    assert caught.value.code == 2
    assert "onnxruntime: pip install 'packify-torch[export]'" in capsys.readouterr().err
    assert exports.TABLE.read_bytes() == before
