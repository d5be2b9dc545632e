"""Two tables of what converts, from before and after a change: what is lost, what is wider, and what newly falls back."""

from __future__ import annotations

from collections.abc import Mapping

from tests.zoo.outcome import Outcome

ROUNDING = 1.5e-4
"""Tables hold ratios to four digits."""


def lost(before: Mapping[str, Outcome], after: Mapping[str, Outcome]) -> list[str]:
    """Names that have no row any more or do not convert any more, wider members and new fallbacks; empty if nothing got worse."""
    return [f"{label}: {what}" for label, old in before.items() for what in _worse(old, after.get(label))]


def _worse(old: Outcome, new: Outcome | None) -> list[str]:
    if new is None:
        return ["has no row"]
    if not new.converted:
        return [f"{new.outcome}: {new.reason}"] if old.converted else []
    ratios = {"half": (old.half, new.half), "half_gamma": (old.half_gamma, new.half_gamma)}
    wider = [f"{name} {was:.4f} -> {now:.4f}" for name, (was, now) in ratios.items() if old.converted and now > was + ROUNDING]
    return wider + ([f"falls back: {new.fallbacks}"] if new.fallbacks and new.fallbacks != old.fallbacks else [])


def changed(before: Mapping[str, Outcome], after: Mapping[str, Outcome], column: str) -> list[str]:
    """The rows of both tables in which a column differs, as ``"timm:resnet50: 0.2770 -> 0.2768"``."""
    pairs = [(label, getattr(old, column), getattr(after[label], column)) for label, old in before.items() if label in after]
    return [f"{label}: {was} -> {now}" for label, was, now in pairs if was != now]
