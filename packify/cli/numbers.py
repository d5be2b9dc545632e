"""Numbers as people read them: 25.557 M, 4.089 G, 102.2 MB, 1.08x."""

from __future__ import annotations

_STEPS = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


def amount(value: int) -> str:
    """A count with a decimal prefix and three decimals: ``25.557 M``."""
    for size, prefix in _STEPS:
        if value >= size:
            return f"{value / size:.3f} {prefix}"
    return str(value)


def megabytes(value: int) -> str:
    """Bytes as decimal megabytes: ``102.2 MB``."""
    return f"{value / 1e6:.1f} MB" if value >= 10**5 else f"{value / 1e3:.1f} kB"


def times(value: int, of: int) -> str:
    """A ratio: ``1.08x``."""
    return f"{value / of:.2f}x" if of else "-"


def span(values: list[int]) -> str:
    """The range of some widths: ``64`` or ``64-512``."""
    if not values:
        return "-"
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low}-{high}"
