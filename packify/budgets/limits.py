"""Limits as a person writes them: ``1.0x`` of the reference, ``12M`` parameters, ``2G`` Mult-Adds, ``8GB`` of memory."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from packify.core.errors import BudgetError

Quantity = Literal["params", "mult_adds", "memory", "training_memory"]

COUNT_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12}
BYTE_UNITS = {"B": 1} | {
    prefix + suffix: base ** (power + 1) for power, prefix in enumerate("KMGT") for suffix, base in (("B", 1000), ("IB", 1024))
}
_WRITTEN = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+\.)\s*([A-Za-z]*)\s*")


@dataclass(frozen=True)
class Limit:
    """An upper bound on one quantity of the packed network.

    Attributes:
        quantity: what is bounded.
        most: the bound, in parameters, Mult-Adds or bytes.
        text: as it was written.
    """

    quantity: Quantity
    most: float
    text: str

    def meets(self, value: float) -> bool:
        """Whether a value is within the bound."""
        return value <= self.most


def parse_limit(quantity: Quantity, written: str | float, reference: float) -> Limit:
    """A limit from ``"1.5x"`` (times the reference), ``"12M"``, ``"8GB"`` or a plain number.

    Args:
        reference: the reference's value of the quantity, for relative limits.

    Raises:
        BudgetError: it cannot be read, has an unknown unit, or is not above zero.
    """
    text = str(written)
    match = None if isinstance(written, bool) else _WRITTEN.fullmatch(text)
    if match is None:
        raise _unreadable(quantity, text, "a limit is a number with a unit")
    number, unit = float(match[1]), match[2]
    if unit.lower() == "x":
        most = number * reference
    else:
        units = BYTE_UNITS if "memory" in quantity else COUNT_UNITS
        if (unit.upper() or "") not in units and unit:
            raise _unreadable(quantity, text, f"{unit!r} is not a unit of {_NAMES[quantity]}")
        most = number * units.get(unit.upper(), 1)
    if not math.isfinite(most) or most <= 0:
        raise _unreadable(quantity, text, "nothing fits in a limit that is not above zero")
    return Limit(quantity, most, text)


_NAMES: dict[Quantity, str] = {
    "params": "parameters",
    "mult_adds": "Mult-Adds",
    "memory": "memory",
    "training_memory": "training memory",
}


def _unreadable(quantity: Quantity, text: str, why: str) -> BudgetError:
    units = "B, KB, MB, GB, TB (KiB, MiB ... for powers of 1024)" if "memory" in quantity else "K, M, G, T"
    return BudgetError(
        f"the limit on {_NAMES[quantity]}",
        found=repr(text),
        why=why,
        fix=f"write it relative to the reference (1.0x) or in {units}, for example " + ("8GB" if "memory" in quantity else "12M"),
    )


def several(name: str, values: Any) -> list[Any]:
    """One value or several as a list.

    Raises:
        BudgetError: none, or a text.
    """
    found = list(values) if isinstance(values, Iterable) and not isinstance(values, str) else [values]
    if not found or any(isinstance(value, str) for value in found):
        raise BudgetError(
            name,
            found=repr(values) if found else "no value",
            why="it is a number, or a list of at least one",
            fix=f"pass for example {name}=[2, 4]",
        )
    return found
