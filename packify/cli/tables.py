"""Tables and lists that several commands print: networks side by side, layers, notes by reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from packify.cli.numbers import amount, times

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.table import Table
    from rich.text import Text

    from packify.budgets import Budget, Cost
    from packify.core.report import Note

SHOWN_REASONS = 6
_SHOWN_NODES = 3


def size(value: int) -> str:
    """Bytes with a decimal unit: ``14.3 kB``, ``102.4 MB``, ``3.58 GB``."""
    for unit, name, digits in ((10**9, "GB", 2), (10**6, "MB", 1), (10**3, "kB", 1)):
        if value >= unit:
            return f"{value / unit:.{digits}f} {name}"
    return f"{value} B"


_ROWS: tuple[tuple[str, Callable[[Cost], int], Callable[[int], str]], ...] = (
    ("parameters", lambda cost: cost.params, amount),
    ("buffers", lambda cost: cost.buffers, amount),
    ("Mult-Adds", lambda cost: cost.mult_adds, amount),
    ("weights", lambda cost: cost.total_weight_bytes, size),
    ("activations, inference peak", lambda cost: cost.inference_bytes, size),
    ("activations, kept for backward", lambda cost: cost.training_bytes, size),
    ("  kept for backward, in turn", lambda cost: cost.training_bytes_in_turn, size),
)


def networks_table(found: Budget) -> Table:
    """Reference, member, packed network and Deep Ensemble side by side, with ratios to the reference."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    count = found.spec.num_estimators
    labels = {"reference": "reference", "member": "one member", "packed": "packed", "deep_ensemble": f"Deep Ensemble of {count}"}
    networks = found.networks()
    for name, label in labels.items():
        table.add_column(label, justify="right", style="bold" if name == "packed" else "dim" if name == "deep_ensemble" else "")

    def add(label: str, value: Callable[[Cost], int], text: Callable[[int], str]) -> None:
        cells = [
            text(value(cost)) if name == "reference" else f"{text(value(cost))}  {times(value(cost), value(found.reference)):>6}"
            for name, cost in networks.items()
        ]
        table.add_row(label, *cells)

    for label, value, text in _ROWS:
        add(label, value, text)
        if label == "weights" and len(found.reference.weight_bytes) > 1:
            for dtype in found.reference.weight_bytes:
                add(f"  {dtype}", lambda cost, dtype=dtype: cost.weight_bytes.get(dtype, 0), size)  # type: ignore[misc] # the default binds the loop's value
    return table


def layers_table(found: Budget) -> Table:
    """Every layer of the packed network; the columns add up to its totals."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True)
    table.add_column("layer", footer="total", overflow="fold")
    table.add_column("kind")
    for label in ("width", "groups", "gamma"):
        table.add_column(label, justify="right", no_wrap=True)
    table.add_column("parameters", justify="right", footer=f"{sum(layer.params for layer in found.layers):,}", no_wrap=True)
    table.add_column("Mult-Adds", justify="right", footer=f"{sum(layer.mult_adds for layer in found.layers):,}", no_wrap=True)
    table.add_column("share", justify="right", footer="100.0%", no_wrap=True)
    count = found.spec.num_estimators
    for layer in found.layers:
        table.add_row(
            layer.name or "(the network itself)",
            layer.kind,
            "" if layer.width is None else f"{layer.reference_width} > {count} x {layer.member_width}",
            "" if layer.groups is None else str(layer.groups),
            "" if layer.gamma is None else str(layer.gamma),
            f"{layer.params:,}" if layer.params else "",
            f"{layer.mult_adds:,}" if layer.mult_adds else "",
            f"{layer.share:.1%}" if layer.mult_adds else "",
        )
    return table


def notes_text(title: str, notes: Sequence[Note]) -> Text:
    """Notes under one heading, those with the same reason on one line."""
    from rich.text import Text

    reasons: dict[tuple[str, str], list[Note]] = {}
    for note in notes:
        reasons.setdefault((note.what, note.why), []).append(note)
    text = Text(f"{title} ({len(notes)})", style="bold")
    for (what, why), alike in list(reasons.items())[:SHOWN_REASONS]:
        nodes = ", ".join(note.node for note in alike[:_SHOWN_NODES])
        more = f" and {len(alike) - _SHOWN_NODES} more" if len(alike) > _SHOWN_NODES else ""
        text.append(f"\n  {nodes}{more}", style="not bold").append(f": {what}", style="not bold").append(
            f" - {why}" if why else "", style="not bold dim"
        )
    if len(reasons) > SHOWN_REASONS:
        text.append(f"\n  and {len(reasons) - SHOWN_REASONS} more reasons: --json lists them all", style="not bold dim")
    return text.append("\n")
