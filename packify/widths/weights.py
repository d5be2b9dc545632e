"""Which parameter is the weight of a layer, and the layers that share one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import fx

from packify.capture.binding import arguments


def argument(node: fx.Node, name: str) -> Any:
    """An argument of a layer's call, however it was passed."""
    return arguments(node).get(name)


def groups_of(node: fx.Node) -> int:
    """The reference's own group count of a layer node."""
    groups = argument(node, "groups")
    groups = groups.meta["val"] if isinstance(groups, fx.Node) else groups
    return int(groups or 1)


def weight_nodes(node: fx.Node) -> set[fx.Node]:
    """The nodes that a layer's weight is computed by, itself included."""
    seen: set[fx.Node] = set()
    stack = [argument(node, "weight")]
    while stack:
        current = stack.pop()
        if isinstance(current, fx.Node) and current not in seen:
            seen.add(current)
            stack += current.all_input_nodes
    return seen


def piece_of(node: fx.Node) -> tuple[str, int] | None:
    """The parameter that a layer's weight is a piece of, and which: of ``q, k, v = w.chunk(3)``, all of them weights of one layer each.

    Rows of convs with groups belong to one group after the other, and a transposed one has its outputs on the second axis: not of these.
    """
    split = _split_of(argument(node, "weight"))
    if split is None:
        return None
    held, readers = arguments(split)["input"], [_reader_of(piece) for piece in split.users]
    if not isinstance(held, fx.Node) or held.op != "get_attr" or None in readers or len(readers) != len(split.meta["val"]):
        return None
    if arguments(split)["dim"] % held.meta["val"].dim() or any(user is not split and _is_tensor(user) for user in held.users):
        return None
    return str(held.target), int(argument(node, "weight").args[1])


def _split_of(piece: fx.Node) -> fx.Node | None:
    source = piece.args[0] if piece.meta.get("op") == "getitem" else None
    return source if isinstance(source, fx.Node) and source.meta.get("op") in ("chunk", "split", "tensor_split") else None


def _reader_of(piece: fx.Node) -> fx.Node | None:
    """The one layer whose weight this is."""
    readers = [user for user in piece.users if _is_tensor(user)]
    if len(readers) != 1 or _split_of(piece) is None or not _is_plain_layer(readers[0]):
        return None
    (reader,) = readers
    return reader if argument(reader, "weight") is piece and argument(reader, "bias") is not piece else None


def _is_plain_layer(node: fx.Node) -> bool:
    op = str(node.meta.get("op"))
    return op == "linear" or (op in ("conv1d", "conv2d", "conv3d") and groups_of(node) == 1)


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), (torch.Tensor, tuple, list))


def weight_name(node: fx.Node) -> str | None:
    """The parameter that is, or alone computes, a layer's weight in the weight's own shape, or that it is a piece of (`piece_of`)."""
    piece = piece_of(node)
    if piece is not None:
        return piece[0]
    nodes = weight_nodes(node)
    shape = argument(node, "weight").meta["val"].shape
    if any(current.op in ("placeholder", "call_module") for current in nodes):
        return None
    found = {str(current.target) for current in nodes if current.op == "get_attr" and current.meta["val"].shape == shape}
    return found.pop() if len(found) == 1 else None


def weight_sources(node: fx.Node) -> frozenset[str]:
    """The parameters and buffers that a layer's weight is computed from."""
    return frozenset(str(source.target) for source in weight_nodes(node) if source.op == "get_attr")


def weight_is_computed(node: fx.Node) -> bool:
    """A layer's weight is not a parameter itself, but made of some."""
    return bool(argument(node, "weight").op != "get_attr")


def used_more_than_once(nodes: Iterable[fx.Node]) -> set[str]:
    """Weights that several layers of one graph share; layers that read different pieces of one share none."""
    seen: dict[tuple[int, str], list[int | None]] = {}
    for node in nodes:
        piece = piece_of(node)
        seen.setdefault((id(node.graph), weight_name(node) or ""), []).append(piece[1] if piece is not None else None)
    return {name for (_, name), pieces in seen.items() if len(set(pieces)) < len(pieces) or (None in pieces and len(pieces) > 1)}


def is_read_elsewhere(node: fx.Node) -> bool:
    """Something else than this layer reads its weight, or writes to it."""
    if piece_of(node) is not None:
        return False
    own = {node, *weight_nodes(node)}
    readers = {user for source in own - {node} for user in source.users} - own
    return any(map(_is_tensor, readers))
