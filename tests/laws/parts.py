"""Law 12 as a check of its own: run a member, and ask of every piece of a grouped layer's output which input subgroups it depends on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx

from packify.nn.graph_network import MemberNetwork
from tests.laws import checks

_SPLITS = frozenset("chunk split tensor_split unbind getitem narrow select".split())
_FLAT = frozenset("relu relu6 hardswish hardsigmoid hardtanh clamp".split())
_LAYERS = ("linear", "conv")


class _Kept(fx.Interpreter):
    """A run that keeps every value; what is flat somewhere is not, so that every dependence has a gradient."""

    def __init__(self, member: MemberNetwork) -> None:
        super().__init__(member.body, garbage_collect_values=False, graph=member.graphs["eval"])

    def run_node(self, n: fx.Node) -> Any:
        if n.meta.get("op") in _FLAT:
            return torch.nn.functional.softplus(self.fetch_args_kwargs_from_env(n)[0][0])
        return super().run_node(n)


def torn_parts(member: MemberNetwork, inputs: Any, dtype: torch.dtype = torch.float64) -> tuple[int, list[str]]:
    """How many pieces were looked at, and those that some subgroup of their layer's input does not reach.

    Args:
        member: of a packed network with gamma above 1.
        inputs: what it takes.
        dtype: to run it in.
    """
    member = member.to(dtype).eval()
    checks.no_dropout(member)
    run = _Kept(member)
    run.run(*(x.to(dtype) if x.is_floating_point() else x for x in member.flat_inputs(*_call(inputs))))
    looked, torn = 0, []
    for layer in member.graphs["eval"].nodes:
        gamma = layer.meta.get("gamma", 1)
        if gamma == 1 or not str(layer.meta["op"]).startswith(_LAYERS):
            continue
        source = layer.args[0]
        x = run.env[source]
        for piece in _pieces(layer):
            reached = _reached(run.env[piece], x, layer, gamma)
            if any(reached):
                looked += 1
                torn += [] if all(reached) else [f"{piece.name} of {layer.name}: {reached}"]
    return looked, torn


def _call(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, dict):
        return (), inputs
    return (inputs if isinstance(inputs, tuple) else (inputs,)), {}


def _pieces(layer: fx.Node) -> Iterator[fx.Node]:
    """The tensors that splits give of what a layer gives, up to the next layers."""
    waiting, seen = list(layer.users), set[fx.Node]()
    while waiting:
        node = waiting.pop()
        if node in seen or node.op == "output" or str(node.meta["op"]).startswith(_LAYERS):
            continue
        seen.add(node)
        waiting += node.users
        if node.meta["op"] in _SPLITS and isinstance(node.meta["val"], Tensor):
            yield node


def _reached(piece: Tensor, x: Tensor, layer: fx.Node, gamma: int) -> list[bool]:
    """Which subgroups of a layer's input a piece depends on."""
    if not (piece.requires_grad and x.requires_grad):
        return []
    weights = torch.randn(piece.shape, dtype=piece.dtype, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad((piece * weights).sum(), x, retain_graph=True, allow_unused=True)
    if gradient is None:
        return []
    axis = gradient.dim() - 1 if layer.meta["op"] == "linear" else gradient.dim() - int(str(layer.meta["op"])[-2]) - 1
    groups = 1 if layer.meta["op"] == "linear" else _groups(layer) // gamma
    blocks = gradient.movedim(axis, 0).unflatten(0, (groups, gamma, -1)).transpose(0, 1).flatten(1)
    return [bool(block.abs().max() > 0) for block in blocks]


def _groups(conv: fx.Node) -> int:
    groups = conv.args[6] if len(conv.args) > 6 else conv.kwargs["groups"]
    return int(groups.meta["val"] if isinstance(groups, fx.Node) else groups)  # type: ignore[arg-type]
