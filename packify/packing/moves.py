"""What relayouts cost: which of them copy the tensor, and how many bytes those of a packed graph copy for one sample."""

from __future__ import annotations

from collections.abc import Sequence

from torch import fx

from packify.nn.members import FRONT, relayout


def copies(shape: Sequence[int], source: int, target: int) -> bool:
    """Whether M tensors of that shape, contiguous as they are, have to be copied to be contiguous with their members elsewhere.

    An axis of their own can always be split off as a view; to come from there, or from another axis, nothing may lie in between but axes
    of size 1. Where the target's size is 1, torch returns a view in another order, ``"(m b) 1 -> b (m 1)"``: whoever reads it copies.
    """
    if target in (source, FRONT):
        return False
    low, high = (0, target) if source == FRONT else sorted((source, target))
    return any(size != 1 for size in shape[low:high])


def relayout_bytes(graph: fx.Graph, members: int, batch: int | None) -> int:
    """Bytes of all members' tensors that one pass through a packed graph copies for one sample, because their members go elsewhere.

    A byte that is copied is read once and written once; it counts once. Where a tensor does not depend on the inputs, as a parameter,
    all of it is copied whatever the batch is, and counts in full.

    Args:
        graph: the packed graph, whose nodes know one member's tensors.
        members: M.
        batch: the batch size that the graph was recorded with; None where it has none, so that a sample is the whole input.
    """
    depends: set[fx.Node] = set()
    total = 0
    for node in graph.nodes:
        if node.op == "placeholder" or not depends.isdisjoint(node.all_input_nodes):
            depends.add(node)
        if node.target is not relayout:
            continue
        value, (_, source, target, *_) = node.meta["val"], node.args
        if copies(value.shape, source, target):
            size = members * value.numel() * value.element_size()
            total += -(-size // (batch or 1)) if node in depends else size
    return total
