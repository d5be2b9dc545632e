"""`packify ops`: the operators that have rules."""

from __future__ import annotations

from packify.cli.console import out, print_json
from packify.cli.options import Json


def ops(json: Json = False) -> None:
    """List the operators that have rules, by family."""
    from packify.ops.table import merged

    rules = merged(None)
    families: dict[str, list[str]] = {}
    for key, rule in rules.items():
        families.setdefault(rule.family, []).append(key if isinstance(key, str) else key.__name__)
    if json:
        print_json({"families": {family: sorted(names) for family, names in families.items()}, "operators": len(rules)})
        return
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("family", style="bold", no_wrap=True)
    table.add_column("", justify="right", style="dim")
    table.add_column("operators")
    for family, names in families.items():
        table.add_row(family, str(len(names)), " ".join(sorted(names, key=str.lower)))
    out().print(table)
    out().print(f"{len(rules)} operators. Any other runs once per member if it is safe, or is an error that names it.", style="dim")
