"""An ensemble and its members are counted by the same code, each with its own share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from packify.evaluation.tally import EnsembleTally


@dataclass(frozen=True)
class _Piece:
    values: tuple[int, ...]
    labelled: bool = True

    def alone(self) -> list[_Piece]:
        return [_Piece((value,)) for value in self.values]


@dataclass(frozen=True)
class _Found:
    name: str
    seen: list[Any]
    num_estimators: int
    members: tuple[_Found, ...] = ()
    shift: Any = None


class _Predictor:
    def __init__(self, name: str = "member") -> None:
        self.name, self.seen = name, []  # type: ignore[var-annotated]

    def update(self, piece: _Piece) -> None:
        self.seen.append(piece.values)

    def detect(self, piece: _Piece, ood: bool) -> None:
        self.seen.append(("ood" if ood else "in", *piece.values))

    def evaluation(self, members: int, with_ood: bool) -> _Found:
        return _Found(self.name, self.seen, members)


@pytest.mark.parametrize("members", [1, 3])
def test_who_counts_what(members: int) -> None:
    tally = EnsembleTally(_Predictor("ensemble"), _Predictor)
    values = tuple(range(5, 5 + members))
    tally.update(_Piece(values), detect=True)
    tally.update(_Piece(values, labelled=False), detect=True)
    tally.update(_Piece(values))
    tally.update_ood(_Piece(values))
    found = tally.evaluation(shift="shifted", with_ood=True)
    assert found == _Found("ensemble", [values, ("in", *values), values, ("ood", *values)], members, found.members, "shifted")
    assert found.members == tuple(
        _Found("member", [(value,), ("in", value), (value,), ("ood", value)], 1) for value in (values if members > 1 else ())
    )
