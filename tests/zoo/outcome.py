"""What became of one architecture, and the table of all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.zoo import tables
from tests.zoo.architectures import Architecture
from tests.zoo.tables import FOLDER

TABLE = FOLDER / "outcomes.tsv"
TOLERATED = 0.10
"""How much heavier than ideal a member may be before its row has to say why."""


@dataclass(frozen=True)
class Outcome:
    """One row of the table.

    Attributes:
        part: the submodule that was packed; empty for the whole model.
        outcome: ``"converted"``, or the class of the error.
        reason: one line, where it was not converted.
        nodes: of the recorded graph in evaluation mode.
        params: parameters of the reference.
        half, half_gamma: parameters of a member at (2, 4, 1), which (1.5, 3, 1) shares, and at (2, 4, 2), over the reference's.
        ideal: the same for a member all of whose hidden axes are halved, see `ideal_params`.
        pinned: how many widths keep the reference's size at (2, 4, 1).
        pins: why, with the number of widths for each reason; where the member is heavy, each width with the node that keeps it.
        rounded: how many widths are not exactly half the reference's.
        fallbacks: operators and modules that run once per member, over all three configurations.
    """

    library: str
    family: str
    name: str
    part: str = ""
    outcome: str = "converted"
    reason: str = ""
    nodes: int = 0
    params: int = 0
    half: float = 0.0
    ideal: float = 0.0
    half_gamma: float = 0.0
    pinned: int = 0
    pins: str = ""
    rounded: int = 0
    fallbacks: str = ""

    @property
    def label(self) -> str:
        return f"{self.library}:{self.name}"

    @property
    def architecture(self) -> Architecture:
        return Architecture(self.library, self.name, self.family, self.part)

    @property
    def converted(self) -> bool:
        return self.outcome == "converted"

    @property
    def excess(self) -> float:
        """How much heavier a member is than ideal, as a fraction."""
        return self.half / self.ideal - 1 if self.converted and self.ideal else 0.0

    @property
    def heavy(self) -> bool:
        return self.excess > TOLERATED


def read(path: Path = TABLE) -> dict[str, Outcome]:
    """The table by label; empty if there is none."""
    return {row.label: row for row in tables.read(Outcome, path)}


def write(rows: Iterable[Outcome], path: Path = TABLE) -> None:
    """Replace the table, sorted by library, family and name."""
    tables.write(Outcome, sorted(rows, key=lambda row: (row.library, row.family, row.name)), path)
