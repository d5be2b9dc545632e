"""The table of what one device of a mesh holds and sends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packify.cli.tables import size

if TYPE_CHECKING:
    from rich.table import Table

    from packify.budgets.devices import DevicePlan


def device_table(plan: DevicePlan) -> Table:
    """Bytes by what they are for, whether they fit, and what goes over each axis of the mesh in a step."""
    from rich import box
    from rich.table import Table

    devices = plan.mesh["member"] * plan.mesh["data"]
    mesh = ", ".join(f"{axis}={count}" for axis, count in plan.mesh.items())
    title = f"each of {devices} devices ({mesh}): {plan.members} members, batch {plan.batch // plan.mesh['data']} of {plan.batch}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for label in ("", "members side by side", "members in turn"):
        table.add_column(label, justify="right" if label else "left")
    for label, value in (
        ("weights and buffers", plan.weight_bytes),
        ("gradients", plan.gradient_bytes),
        (f"{plan.optimizer}'s moments", plan.optimizer_bytes),
        *((("weights gathered by fsdp", plan.gathered_bytes),) if plan.gathered_bytes else ()),
    ):
        table.add_row(label, size(value), size(value))
    table.add_row("activations kept for backward", size(plan.activation_bytes), size(plan.activation_bytes_in_turn))
    table.add_row("in all", size(plan.total_bytes), size(plan.total_bytes_in_turn), style="bold")
    if plan.memory_bytes is not None:
        fits = [total <= plan.memory_bytes for total in (plan.total_bytes, plan.total_bytes_in_turn)]
        table.add_row(f"fits in {size(plan.memory_bytes)}", *("yes" if one else "no" for one in fits))
    for one in plan.traffic:
        sent = "nothing is sent" if one.collective == "none" else one.collective
        payload = size(one.payload_bytes) if one.payload_bytes else ""
        table.add_row(f"{one.axis}, {one.when}", sent, payload, style="dim")
    return table
