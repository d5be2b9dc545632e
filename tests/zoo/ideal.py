"""What a member would weigh if every hidden axis were scaled, from parameter shapes and not from packify's own widths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from packify.capture.graphs import RecordedGraphs

_LAYERS = frozenset("conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear LSTM GRU RNN".split())


@dataclass
class _Role:
    """How the layers that use a parameter use it: which axes are their output and input, and whether the network's caller sees these."""

    output: int
    input: int | None
    reads_input: bool
    reads_output: bool
    last: bool


def ideal_params(recorded: RecordedGraphs, ratio: float) -> float:
    """The parameters of a member all of whose hidden axes have `ratio` times the reference's size, not rounded.

    - The weight of a layer (convolution, linear, recurrent) scales along its output axis and its input axis, its bias along the
      output axis. Kept are kernel axes, an input axis of size 1 (a depthwise convolution's), and the axes that are the network's own
      input or output: the input axis of a layer that no layer comes before, the output axis of a layer that no layer comes after,
      and the input axis of a layer that reads what the network returns (a residual stream without a head).
    - Any other parameter (a norm's weight, a position embedding, a layer scale) scales along each axis whose size is the output
      width of some layer that is not a last one.

    A token count that a linear layer mixes over is a hidden axis by this definition: a member must keep it, is heavier than this
    figure, and its row says why.
    """
    roles: dict[str, _Role] = {}
    for graph in {id(graph): graph for graph in recorded.graphs.values()}.values():
        _assign_roles(graph, roles)
    parameters = dict(recorded.root.named_parameters())
    modules = dict(recorded.root.named_modules())
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
    if role.input is not None and not (role.reads_input or role.reads_output) and tensor.shape[role.input] > 1:
        axes.append(role.input)
    return axes


def _assign_roles(graph: fx.Graph, roles: dict[str, _Role]) -> None:
    after_layer: set[fx.Node] = set()
    for node in graph.nodes:
        if _is_layer(node) or any(parent in after_layer and _is_tensor(parent) for parent in node.all_input_nodes):
            after_layer.add(node)
    returned: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if _is_tensor(node) and any(user.op == "output" or (user in returned and not _is_layer(user)) for user in node.users):
            returned.add(node)
    layers = [node for node in graph.nodes if _is_layer(node) and node.op == "call_function"]
    widths = {_width(node) for node in layers if node in returned}
    tied: set[fx.Node] = set()
    for node in graph.nodes:
        follows = not _is_layer(node) and any(parent in tied for parent in node.all_input_nodes)
        if (node in returned or follows) and widths.intersection(getattr(node.meta["val"], "shape", ())):
            tied.add(node)
    for node in layers:
        data, weight = _argument(node, 0, "input"), _argument(node, 1, "weight")
        turned = "transpose" in node.meta["op"]
        reads_output = data in tied and weight.meta["val"].shape[int(not turned)] in widths
        for name in _sources(weight):
            _add(roles, name, _Role(int(turned), int(not turned), data not in after_layer, reads_output, node in returned))
        for name in _sources(_argument(node, 2, "bias")):
            _add(roles, name, _Role(0, None, False, False, node in returned))


def _add(roles: dict[str, _Role], name: str, role: _Role) -> None:
    """A parameter that several layers share keeps an axis only if all of them do."""
    known = roles.setdefault(name, role)
    known.reads_input, known.reads_output = known.reads_input and role.reads_input, known.reads_output and role.reads_output
    known.last = known.last and role.last


def _width(node: fx.Node) -> int:
    weight = _argument(node, 1, "weight").meta["val"]
    return int(weight.shape[int("transpose" in node.meta["op"])])


def _is_tensor(node: fx.Node) -> bool:
    """Computed tensors, not parameters and not the sizes that code reads from a tensor."""
    return node.op != "get_attr" and isinstance(node.meta["val"], (torch.Tensor, tuple, list))


def _sources(given: Any) -> Iterator[str]:
    """The parameters of a weight's own shape that it is or is computed from, or that it is a piece of."""
    stack, seen = [given] if isinstance(given, fx.Node) else [], set()
    while stack:
        node = stack.pop()
        if node in seen or node.op in ("placeholder", "call_module"):
            continue
        seen.add(node)
        if node.op == "get_attr" and _is_whole(node.meta["val"].shape, given.meta["val"].shape):
            yield str(node.target)
        stack += [parent for parent in node.all_input_nodes if isinstance(parent.meta["val"], (torch.Tensor, tuple, list))]


def _is_whole(whole: torch.Size, piece: torch.Size) -> bool:
    """Whether pieces along the leading axis make the whole, as query, key and value make one projection."""
    return len(whole) == len(piece) and whole[1:] == piece[1:] and whole[0] % piece[0] == 0


def _is_layer(node: fx.Node) -> bool:
    return node.meta.get("op") in _LAYERS


def _argument(node: fx.Node, position: int, name: str) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name)
