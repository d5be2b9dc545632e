"""Tables of the zoo: dataclasses as the rows of a file of tab-separated values."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

FOLDER = Path(__file__).parent
_READ: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "str": str}
Row = TypeVar("Row")


def read(kind: type[Row], path: Path) -> list[Row]:
    """The rows of a table; none if there is no such file."""
    if not path.exists():
        return []
    columns: Any = dataclasses.fields(kind)  # type: ignore[arg-type]
    with path.open(newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return [kind(**{column.name: _READ[column.type](row[column.name]) for column in columns}) for row in rows]


def write(kind: type[Row], rows: Iterable[Row], path: Path) -> None:
    """Replace a table; an interrupted run leaves the old one."""
    names = [column.name for column in dataclasses.fields(kind)]  # type: ignore[arg-type]
    fresh = path.with_suffix(".new")
    with fresh.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_text(getattr(row, name)) for name in names] for row in rows)
    fresh.replace(path)


def _text(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
