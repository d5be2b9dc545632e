"""What converts: the table as it is checked in, and a sample of it done again."""

from __future__ import annotations

import zlib

import pytest

from tests.zoo import numeric, summary
from tests.zoo.architectures import architectures
from tests.zoo.convert import convert
from tests.zoo.outcome import Outcome, read

_TABLE = read()
_SAMPLE_SIZE = 24
_MOST_NODES = 900  # what is larger takes seconds


def _sample() -> list[Outcome]:
    """The same rows on every machine, from all over the table."""
    small = [row for row in _TABLE.values() if row.nodes <= _MOST_NODES]
    return sorted(small, key=lambda row: zlib.crc32(row.label.encode()))[:_SAMPLE_SIZE]


@pytest.mark.slow
@pytest.mark.quick_cases(2)
@pytest.mark.parametrize("row", _sample(), ids=lambda row: row.label)
def test_an_architecture_converts_as_the_table_says(row: Outcome) -> None:
    again, _ = convert(row.architecture)
    assert (again.outcome, again.reason) == (row.outcome, row.reason)
    assert again.half == pytest.approx(row.half, abs=2e-4)
    assert again.half_gamma == pytest.approx(row.half_gamma, abs=2e-4)
    assert again.ideal == pytest.approx(row.ideal, abs=2e-4)
    assert (again.pinned, again.pins, again.rounded) == (row.pinned, row.pins, row.rounded)
    assert again.fallbacks == row.fallbacks


def test_nearly_every_name_has_a_row() -> None:
    """All of them in the versions that the table was made with; later ones add some."""
    missing = [one.label for one in architectures() if one.label not in _TABLE]
    assert len(missing) < 0.05 * len(_TABLE), missing


def test_what_does_not_convert_says_why() -> None:
    assert [row.label for row in _TABLE.values() if not row.converted and not row.reason] == []


def test_what_is_heavy_says_what_was_kept() -> None:
    assert [row.label for row in _TABLE.values() if row.heavy and not row.pins and not row.rounded] == []


def test_fallbacks_are_rare() -> None:
    taken = [row.label for row in _TABLE.values() if row.fallbacks]
    assert len(taken) < 0.02 * len(_TABLE)


def test_the_page_is_written_from_the_table() -> None:
    assert summary.PAGE.read_text() == summary.page(_TABLE.values(), numeric.read().values()), "run: python -m tests.zoo --page"
