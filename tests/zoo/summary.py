"""OUTCOMES.md: what converts, for a reader, from the table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.zoo.outcome import FOLDER, TOLERATED, Outcome

PAGE = FOLDER / "OUTCOMES.md"

_HEAD = """# What converts

Every architecture of timm and torchvision, recorded on the meta device, slimmed, and built as a packed network at (alpha, M, gamma) =
(2, 4, 1), (2, 4, 2) and (1.5, 3, 1). One row per name is in [outcomes.tsv](outcomes.tsv); the laws checked with numbers, one member of
each family, are in [numeric.tsv](numeric.tsv). Both pages and this one are written by `python -m tests.zoo --update` and
`python -m tests.zoo --numeric`. Of torchvision's detectors the backbone is packed, with `packify.pack_submodule`.
"""


def totals(rows: Iterable[Outcome]) -> list[str]:
    """Converted of tried, by library, as lines."""
    rows = list(rows)
    lines = []
    for library in sorted({row.library for row in rows}):
        own = [row for row in rows if row.library == library]
        lines.append(
            f"{library}: {sum(row.converted for row in own)} of {len(own)} converted, {sum(bool(row.fallbacks) for row in own)} with a fallback, "
            f"{sum(row.heavy for row in own)} heavier than ideal by over {TOLERATED:.0%}"
        )
    return lines


def write(rows: Iterable[Outcome]) -> None:
    """Write the page."""
    PAGE.write_text(page(sorted(rows, key=lambda row: (row.library, row.family, row.name))))


def page(rows: Sequence[Outcome]) -> str:
    """The page as Markdown."""
    parts = [_HEAD, "## Totals\n", _table(("library", "tried", "converted", "with a fallback", f"over {TOLERATED:.0%} heavier than ideal"), _counts(rows))]
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
    columns = ("architecture", "member", "ideal", "heavier by", "kept", "rounded")
    body = [(row.label, f"{row.half:.3f}", f"{row.ideal:.3f}", f"{row.excess:.0%}", row.pins, str(row.rounded)) for row in heavy]
    parts.append(_table(columns, body) if heavy else "None.\n")
    return "\n".join(parts)


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
