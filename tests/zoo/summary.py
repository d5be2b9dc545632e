"""OUTCOMES.md: what converts, for a reader, from the table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.zoo import numeric, outcome
from tests.zoo.numeric import Check
from tests.zoo.outcome import TOLERATED, Outcome
from tests.zoo.tables import FOLDER

PAGE = FOLDER / "OUTCOMES.md"

_HEAD = """# What converts

Architectures of timm and torchvision, recorded and slimmed at (alpha, M, gamma) = (2, 4, 1), (2, 4, 2) and (1.5, 3, 1), and built as
a packed network, on the meta device. One row per name is in [outcomes.tsv](outcomes.tsv); the laws checked with numbers, one member of
each family, are in [numeric.tsv](numeric.tsv). Both pages and this one are written by `python -m tests.zoo --update` and
`python -m tests.zoo --numeric`. Of torchvision's detectors the backbone is packed, with `packify.pack_submodule`.
"""


def totals(rows: Iterable[Outcome]) -> list[str]:
    """Converted of tried, by library, as lines."""
    return [
        f"{library}: {converted} of {tried} converted, {taken} with a fallback, {heavy} over {TOLERATED:.0%} heavier than ideal"
        for library, tried, converted, taken, heavy in _counts(list(rows))
    ]


def write() -> None:
    """Write the page from both tables."""
    PAGE.write_text(page(outcome.read().values(), numeric.read().values()))


def page(outcomes: Iterable[Outcome], checks: Iterable[Check]) -> str:
    """The page as Markdown."""
    checks = sorted(checks, key=lambda check: check.family)
    rows = sorted(outcomes, key=lambda row: (row.library, row.family, row.name))
    columns = ("library", "tried", "converted", "with a fallback", f"over {TOLERATED:.0%} heavier than ideal")
    parts = [_HEAD, "## Totals\n", _table(columns, _counts(rows))]
    failed = [row for row in rows if not row.converted]
    parts.append("## Not converted\n")
    parts.append(_table(("architecture", "why"), [(row.label, f"{row.outcome}: {row.reason}") for row in failed]) if failed else "None.\n")
    parts.append("## Run once per member\n")
    parts.append("These operators and modules have no packed form and run once per member, on views of the packed weights.\n")
    taken = [row for row in rows if row.fallbacks]
    parts.append(_table(("architecture", "what"), [(row.label, row.fallbacks) for row in taken]) if taken else "None.\n")
    parts.append("## Heavier than ideal\n")
    parts.append(
        "A member at alpha / M = 1/2 against one all of whose hidden axes are halved (`ideal_params` in `ideal.py`), as fractions of the "
        "reference's parameters, and the widths that keep the reference's size.\n"
    )
    heavy = sorted((row for row in rows if row.heavy), key=lambda row: -row.excess)
    columns_of_heavy = ("architecture", "member", "ideal", "heavier by", "kept", "rounded")
    body = [(row.label, f"{row.half:.3f}", f"{row.ideal:.3f}", f"{row.excess:.0%}", row.pins, str(row.rounded)) for row in heavy]
    parts.append(_table(columns_of_heavy, body) if heavy else "None.\n")
    parts.append("## Laws checked with numbers\n")
    broken = [check for check in checks if check.outcome != "holds"]
    parts.append(
        "Equality in both modes, independence and one training step (`packify.verify`), on the lightest member of each family at alpha / M "
        f"= 1/4 and the smallest input that it takes: they hold for {len(checks) - len(broken)} of {len(checks)} families.\n"
    )
    parts.append(
        _table(("family", "checked", "why not"), [(one.family, one.name, f"{one.outcome}: {one.reason}") for one in broken])
        if broken
        else ""
    )
    return "\n".join(parts).rstrip() + "\n"


def _counts(rows: Sequence[Outcome]) -> list[tuple[str, ...]]:
    result = []
    for library in sorted({row.library for row in rows}):
        own = [row for row in rows if row.library == library]
        counts = (len(own), sum(row.converted for row in own), sum(bool(row.fallbacks) for row in own), sum(row.heavy for row in own))
        result.append((library, *map(str, counts)))
    return result


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (head, *body)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]]) + "\n"
