"""What is counted about an ensemble and about each of its members alone, whatever its outputs mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol


class Piece(Protocol):
    """Some samples (or pixels) of one batch, as one ensemble sees them."""

    @property
    def labelled(self) -> bool:
        """Whether there is something to compare predictions with."""

    def alone(self) -> Sequence[Any]:
        """Each member's share, as that of an ensemble of one."""


class Predictor(Protocol):
    """Counts the pieces of one predictor: of an ensemble, or of a member alone."""

    def update(self, piece: Any) -> None:
        """Count a labelled piece."""

    def detect(self, piece: Any, ood: bool) -> None:
        """Count a piece as in-distribution or as out-of-distribution samples."""

    def evaluation(self, members: int, with_ood: bool) -> Any:
        """The scores of everything counted, without members and shift."""


class EnsembleTally:
    """What is counted about one ensemble on one set of labelled data.

    Args:
        ensemble: counts the ensemble's own predictions.
        member: makes what counts a member's.
    """

    def __init__(self, ensemble: Predictor, member: Callable[[], Predictor]) -> None:
        self._ensemble, self._member = ensemble, member
        self._members: list[Predictor] = []

    def update(self, piece: Piece, detect: bool = False) -> None:
        """Count a labelled piece; `detect`: as in-distribution samples too."""
        if not piece.labelled:
            return
        self._members = self._members or [self._member() for _ in piece.alone()]
        for predictor, share in self._shares(piece):
            predictor.update(share)
            if detect:
                predictor.detect(share, ood=False)

    def update_ood(self, piece: Piece) -> None:
        """Count a piece of out-of-distribution samples."""
        for predictor, share in self._shares(piece):
            predictor.detect(share, ood=True)

    def evaluation(self, shift: Any = None, with_ood: bool = False) -> Any:
        """The scores of everything counted."""
        found = self._ensemble.evaluation(len(self._members), with_ood)
        alone = tuple(member.evaluation(1, with_ood) for member in self._members) if len(self._members) > 1 else ()
        return replace(found, members=alone, shift=shift)

    def _shares(self, piece: Piece) -> list[tuple[Predictor, Any]]:
        """Who counts what; one member is the ensemble."""
        members = list(zip(self._members, piece.alone(), strict=True)) if len(self._members) > 1 else []
        return [(self._ensemble, piece), *members]
