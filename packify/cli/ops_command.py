"""`packify ops`: the operators that have rows, and what these say."""

from __future__ import annotations

from typing import Any

from packify.cli.console import out, print_json
from packify.cli.options import Json


def ops(json: Json = False) -> None:
    """List the operators that packify knows: family, arguments, which rules they have, traits."""
    from packify.ops.listing import listed
    from packify.ops.table import merged

    rows = listed(merged(None))
    if json:
        families: dict[str, list[str]] = {}
        for row in rows:
            families.setdefault(row.family, []).append(row.name)
        fields: list[dict[str, Any]] = [row.as_dict() for row in rows]
        print_json({"families": {family: sorted(names) for family, names in families.items()}, "operators": len(rows), "rows": fields})
        return
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("family", style="bold", no_wrap=True)
    table.add_column("operator", no_wrap=True)
    for column in ("arguments", "has", "traits"):
        table.add_column(column, overflow="fold")
    family = ""
    for row in rows:
        table.add_row(row.family if row.family != family else "", row.name, row.signature, " ".join(row.has), " ".join(row.traits))
        family = row.family
    out().print(table)
    out().print(f"{len(rows)} operators. Any other runs once per member if it is safe, or is an error that names it.", style="dim")
