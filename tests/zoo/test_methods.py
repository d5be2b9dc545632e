"""The table of the paper's other ensembles over the zoo, and a sample of its rows made again."""

from __future__ import annotations

import zlib

import pytest

from tests.zoo import methods, outcome

_TABLE = methods.read()
_SAMPLE_SIZE, _MOST_NODES = 12, 400


def _sample() -> list[methods.Row]:
    """The same rows on every machine; what is large takes seconds."""
    nodes = {label: row.nodes for label, row in outcome.read().items()}
    small = [row for row in _TABLE.values() if nodes.get(row.label, _MOST_NODES) < _MOST_NODES]
    return sorted(small, key=lambda row: zlib.crc32(row.label.encode()))[:_SAMPLE_SIZE]


@pytest.mark.families
@pytest.mark.parametrize("row", _sample(), ids=lambda row: row.label)
def test_an_architecture_is_converted_as_the_table_says(row: methods.Row) -> None:
    assert methods.convert(row.architecture) == row


def test_what_cannot_be_converted_says_why() -> None:
    for row in _TABLE.values():
        for name in methods.SPECS:
            said = getattr(row, name)
            assert said.replace(".", "").isdigit() or said.partition(":")[0] in ("PackError", "SpecError", "TraceError"), (row.label, said)


def test_the_page_is_written_from_the_table() -> None:
    assert methods.PAGE.read_text() == methods.page(sorted(_TABLE.values(), key=lambda row: row.label))
