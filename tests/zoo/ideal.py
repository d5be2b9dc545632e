"""What a member would weigh if every hidden axis were scaled, from parameter shapes and not from packify's own widths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from packify.tracing import Traced

_LAYERS = frozenset("conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear LSTM GRU RNN".split())


@dataclass
class _Role:
    """How the layers that use a parameter use it: which axes are their output and input, and where the layers stand."""

    output: int
    input: int | None
    first: bool
    last: bool


def ideal_params(traced: Traced, ratio: float) -> float:
    """The parameters of a member all of whose hidden axes have `ratio` times the reference's size, not rounded.

    - The weight of a layer (convolution, linear, recurrent) scales along its output axis and its input axis, its bias along the
      output axis. Kept are kernel axes, the input axis of a layer that no layer comes before, the output axis of a layer that no
      layer comes after, and an input axis of size 1 (a depthwise convolution's).
    - Any other parameter (a norm's weight, a position embedding, a layer scale) scales along each axis whose size is the output
      width of some layer that is not a last one.

    A token count that a linear layer mixes over is a hidden axis by this definition, and so is the input axis of a layer that reads
    a residual stream which is itself the output. A member must keep those, is heavier than this figure, and its row says why.
    """
    roles: dict[str, _Role] = {}
    for graph in {id(graph): graph for graph in traced.graphs.values()}.values():
        _assign_roles(graph, roles)
    parameters = dict(traced.root.named_parameters())
    modules = dict(traced.root.named_modules())
    widths = {parameters[name].shape[role.output] for name, role in roles.items() if not role.last and name in parameters}
    return sum(tensor.numel() * ratio ** len(_scaled(name, tensor, modules, roles, widths)) for name, tensor in parameters.items())


def _scaled(name: str, tensor: torch.Tensor, modules: dict[str, nn.Module], roles: dict[str, _Role], widths: set[int]) -> list[int]:
    """The axes of a parameter that scale."""
    if isinstance(modules[name.rpartition(".")[0]], nn.RNNBase):
        return list(range(tensor.dim()))
    role = roles.get(name)
    if role is None:
        return [axis for axis, size in enumerate(tensor.shape) if size in widths and size > 1]
    axes = [] if role.last else [role.output]
    if role.input is not None and not role.first and tensor.shape[role.input] > 1:
        axes.append(role.input)
    return axes


def _assign_roles(graph: fx.Graph, roles: dict[str, _Role]) -> None:
    after_layer: set[fx.Node] = set()
    for node in graph.nodes:
        data = [_argument(node, 0, "input")] if _is_layer(node) else node.all_input_nodes
        if _is_layer(node) or any(parent in after_layer for parent in data):
            after_layer.add(node)
    before_output: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if any(user.op == "output" or (user in before_output and not _is_layer(user)) for user in node.users):
            before_output.add(node)
    for node in graph.nodes:
        if not _is_layer(node) or node.op == "call_module":
            continue
        first, last = _argument(node, 0, "input") not in after_layer, node in before_output
        turned = "transpose" in node.meta["op"]
        for name in _sources(_argument(node, 1, "weight")):
            _add(roles, name, _Role(int(turned), int(not turned), first, last))
        for name in _sources(_argument(node, 2, "bias")):
            _add(roles, name, _Role(0, None, first, last))


def _add(roles: dict[str, _Role], name: str, role: _Role) -> None:
    """A parameter that several layers share keeps an axis only if all of them do."""
    known = roles.setdefault(name, role)
    known.first, known.last = known.first and role.first, known.last and role.last


def _sources(given: Any) -> Iterator[str]:
    """The parameters of a weight's own shape that it is, or is computed from."""
    stack, seen = [given] if isinstance(given, fx.Node) else [], set()
    while stack:
        node = stack.pop()
        if node in seen or node.op in ("placeholder", "call_module"):
            continue
        seen.add(node)
        if node.op == "get_attr" and node.meta["val"].shape == given.meta["val"].shape:
            yield str(node.target)
        stack += [parent for parent in node.all_input_nodes if isinstance(parent.meta["val"], torch.Tensor)]


def _is_layer(node: fx.Node) -> bool:
    return node.meta.get("op") in _LAYERS


def _argument(node: fx.Node, position: int, name: str) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name)
