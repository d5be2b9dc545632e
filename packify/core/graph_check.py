"""A check of a graph after every pass: what a later pass relies on is there. On in tests and under ``packify --debug``."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from packify.core.errors import GraphBroken

if TYPE_CHECKING:
    from torch import fx

graph_checks: ContextVar[bool] = ContextVar("graph_checks", default=False)
"""Whether graphs are checked after every pass."""

_KEYS = ("op", "path", "source", "stack", "val", "inplace")
_REPORT = "please report this network; a rule of your own may be the cause"


def check_graph(graph: fx.Graph, made_by: str) -> None:
    """Check what holds in every graph: it is in order, each node says where it comes from, and module calls nest.

    Args:
        graph: the graph of one mode.
        made_by: the pass that made it, for the error.

    Raises:
        GraphBroken: naming the first node at fault.
    """
    try:
        graph.lint()
    except RuntimeError as error:
        raise GraphBroken(f"the graph of {made_by}", found=str(error), why="torch.fx refuses it", fix=_REPORT) from error
    ended: set[tuple[str, int]] = set()
    running: tuple[tuple[str, int], ...] = ()
    for node in graph.nodes:
        missing = [key for key in _KEYS if key not in node.meta and (key != "val" or made_by != "packing")]
        if missing:
            raise broken(node, made_by, f"a node without {', '.join(missing)}", "a node is stamped where it is emitted")
        stack = node.meta["stack"]
        if not isinstance(stack, tuple) or any(call in ended for call in stack):
            raise broken(
                node,
                made_by,
                f"a node of the module calls {stack} after one of them has ended",
                "a recording is a stack, so the calls of modules nest; this node was emitted with the stamp of another",
            )
        ended |= set(running) - set(stack)
        running = stack


def broken(node: Any, made_by: str, found: str, why: str) -> GraphBroken:
    """The error about one node."""
    where = f"{node.meta.get('path') or node.name} ({node.meta.get('source') or made_by})"
    return GraphBroken(where, found=f"{node.format_node() or node.name}: {found}", why=why, fix=_REPORT)
