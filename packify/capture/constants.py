"""Values that depend on shapes alone: a mask made from a length has data although the input has none yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from packify.capture.binding import arguments


def constant_value(node: fx.Node, buffers: Mapping[str, torch.Tensor], constants: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """The value of a recorded node if neither the input's data, a parameter nor chance is in it, else None."""
    known: dict[fx.Node, Any] = {}

    def value_of(current: fx.Node) -> Any:
        if current not in known:
            known[current] = _compute(current)
        return known[current]

    def _compute(current: fx.Node) -> Any:
        name, value = str(current.target), current.meta["val"]
        if current.op == "get_attr" and (name in buffers or name in constants):
            return buffers[name] if name in buffers else constants[name]
        if isinstance(value, torch.device):
            return torch.device("cpu")
        if not isinstance(value, (torch.Tensor, tuple, list)):
            return value
        if current.op not in ("call_function", "call_method") or current.meta.get("random") or current.meta["inplace"]:
            raise _Unknown
        if current.meta["op"] in ("to", "type_as") and isinstance(value, torch.Tensor):  # of another tensor they read what it is like
            return value_of(current.all_input_nodes[0]).to(value.dtype)
        args, kwargs = fx.node.map_arg((current.args, current.kwargs), value_of)
        if current.op == "call_method":
            return getattr(args[0], name)(*args[1:], **kwargs)
        target: Any = current.target
        return target(*args, **kwargs)

    try:
        with torch.no_grad():
            found: torch.Tensor = value_of(node)
            return found
    except (_Unknown, RuntimeError, TypeError):
        return None


def known_outcome(node: fx.Node) -> bool | None:
    """The outcome of a check that is known in advance, else None: ``isfinite(x).all()`` is True, ``rand() < p`` for p <= 0 or p >= 1."""
    sources, op = node.all_input_nodes, node.meta["op"]
    if op in ("not", "logical_not", "invert", "bitwise_not"):
        inner = known_outcome(sources[0])
        return None if inner is None else not inner
    if op in ("all", "any") and sources[0].meta["op"] in _CHECKS:
        finite = sources[0].meta["op"] == "isfinite"
        return finite if finite == (op == "all") else None
    if op in ("lt", "ge") and sources[0].meta["op"] == "rand":
        chance = arguments(node).get("other")
        return None if not isinstance(chance, (int, float)) or 0 < chance < 1 else (chance >= 1) == (op == "lt")
    return None


_CHECKS = frozenset(("isfinite", "isnan", "isinf", "isposinf", "isneginf"))


class _Unknown(Exception):
    """The input's data, a parameter or chance is in the value."""
