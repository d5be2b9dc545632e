"""Every family as a file: a small packed network of it, exported to pt2 and to onnx, and compared with torch at three batch sizes."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import packify
from packify.core.errors import ExportError
from tests.zoo import numeric, tables
from tests.zoo.architectures import BATCH, Architecture
from tests.zoo.convert import one_line
from tests.zoo.tables import FOLDER

TABLE = FOLDER / "exports.tsv"


@dataclass(frozen=True)
class Exported:
    """One row: a family, the member of it that was exported, and what came of it.

    Attributes:
        family, name, input: as in the table of laws.
        pt2, onnx: ``"any batch"``, ``"one batch"`` where the network's code fixes it, or the error's class.
        pt2_reason, onnx_reason: of an error, or of a fixed batch: the node, the operator and the user's line.
    """

    family: str
    name: str
    input: str = ""
    pt2: str = ""
    pt2_reason: str = ""
    onnx: str = ""
    onnx_reason: str = ""

    def __str__(self) -> str:
        return f"{self.input}: pt2 {self.pt2} {self.pt2_reason}; onnx {self.onnx} {self.onnx_reason}"


def read(path: Path = TABLE) -> dict[str, Exported]:
    """The table by family; empty if there is none."""
    return {row.family: row for row in tables.read(Exported, path)}


def write(rows: Iterable[Exported], path: Path = TABLE) -> None:
    """Replace the table, sorted by family."""
    tables.write(Exported, sorted(rows, key=lambda row: row.family), path)


def check(one: Architecture, formats: tuple[str, ...] = ("pt2", "onnx")) -> Exported:
    """Build, pack and export. Never raises."""
    row = Exported(f"{one.library}:{one.family}", one.name)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # what a network's own code warns of is no outcome
        try:
            model, inputs = numeric.small(one)
            packed = numeric.packed(model, inputs).eval()
        except Exception as error:
            return replace(row, pt2=type(error).__name__, pt2_reason=one_line(error))
        for to in formats:
            outcome, reason = _exported(packed, Path(folder) / f"net.{to}")
            row = replace(row, input=numeric.shapes_of(inputs), **{to: outcome, f"{to}_reason": reason})
        return row


def _exported(packed: Any, path: Path) -> tuple[str, str]:
    batch: int | Literal["dynamic"]
    reason = ""
    for batch, outcome in (("dynamic", "any batch"), (BATCH, "one batch")):
        try:
            packify.export(packed, path, batch=batch, outputs=["mean"])
        except ExportError as error:
            if batch == "dynamic" and "--batch" in error.fix:
                reason = one_line(error)
                continue
            return type(error).__name__, one_line(error)
        except Exception as error:
            return type(error).__name__, one_line(error)
        return outcome, reason
    return "", reason
