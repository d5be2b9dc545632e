"""The table as facts to print: one record per operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.nn import functional as F

from packify.capture.binding import signatures_of
from packify.ops.rule import Rule


@dataclass(frozen=True)
class Listed:
    """One operator.

    Attributes:
        signature: its arguments, as its row declares them, else as torch does; empty where neither says.
        has: which of ``widths``, ``pack``, ``refit`` and ``mult_adds`` its row has.
    """

    family: str
    name: str
    signature: str
    has: tuple[str, ...]
    traits: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The fields, as JSON holds them."""
        return {**asdict(self), "has": list(self.has), "traits": list(self.traits)}


def listed(rules: Mapping[Any, Rule]) -> list[Listed]:
    """Every operator of a table, by family in the table's order, then by name."""
    order = {family: index for index, family in enumerate(dict.fromkeys(rule.family for rule in rules.values()))}
    rows = [_row(key if isinstance(key, str) else getattr(key, "__name__", str(key)), rule) for key, rule in rules.items()]
    return sorted(rows, key=lambda row: (order[row.family], row.name.lower(), row.name))


def _row(name: str, rule: Rule) -> Listed:
    has = tuple(part for part in ("widths", "pack", "refit", "mult_adds") if getattr(rule, part) is not None)
    return Listed(rule.family, name, str(rule.signature or "") or _of_torch(name), has, tuple(sorted(rule.traits or ())))


def _of_torch(name: str) -> str:
    """The arguments of a torch function of that name."""
    function = next((found for owner in (torch, F, torch.Tensor, torch.ops.aten) if callable(found := getattr(owner, name, None))), None)
    if function is None or isinstance(function, type):
        return ""
    signatures = [signature for signature in signatures_of(function) if not signature.open and "out" not in signature.names]
    return str(max(signatures, key=lambda signature: len(signature.parameters))) if signatures else ""
