"""Batch norm folded into the layer before it, and what does nothing in evaluation left out: a network for inference alone.

In evaluation mode batch norm multiplies every channel by a number and adds another, so a conv or linear layer in front of it can do both:

    scale = gamma / sqrt(var + eps)      weight' = scale * weight      bias' = beta + scale * (bias - mean)

All of these are member-major vectors ``"(m c)"``, and so the packed tensors are folded as one network's are. The member's graph changes in
the same places, so that the fused network can be run by every strategy.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from packify.core.errors import PackError
from packify.execution.kernels import CONVS, argument_of
from packify.nn.functional import grouped_linear, packed_linear
from packify.nn.members import merge_members, relayout, repeat_members, split_members
from packify.nn.packed_network import PackedNetwork

_TRANSPOSED = frozenset(
    (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
)
_LINEAR = frozenset((F.linear, torch._C._nn.linear, grouped_linear, packed_linear))
# What a packed graph may do between a layer and its norm.
_MOVES = frozenset((relayout, split_members, merge_members, repeat_members))
_DROPOUTS = frozenset((F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout))
_BATCH_NORMS = frozenset((F.batch_norm, torch.batch_norm))


@dataclass(frozen=True)
class _Norm:
    """The tensors of a batch norm, by name; None where it has none."""

    mean: str
    var: str
    weight: str | None
    bias: str | None
    eps: float


@dataclass(frozen=True)
class _Pair:
    """A layer and the batch norm that reads it, in one graph."""

    layer: fx.Node
    norm_node: fx.Node
    weight: str
    bias: str | None
    norm: _Norm
    transposed: bool

    @property
    def key(self) -> tuple[str, str]:
        """What tells the pair in the packed graph and in the member's."""
        return self.weight, self.norm.mean


def fuse(network: PackedNetwork) -> PackedNetwork:
    """A copy of `network` for inference: batch norms are folded into the layers before them, dropout is gone.

    Outputs are the same up to rounding, and so is every member's. The copy cannot be trained or saved.

    Raises:
        PackError: `network`, or a part of it, is in training mode.
    """
    training = next((name for name, part in network.named_modules() if part.training), None)
    if training is not None:
        where = training or "the network"
        raise PackError("fuse", found=f"{where} in training mode", why="batch statistics cannot be folded", fix="packed.eval().fuse()")
    fused = copy.deepcopy(network)
    parts = (fused, fused.member_template)
    for part in parts:
        part.graphs = {"eval": part.graphs["eval"], "train": part.graphs["eval"]}
        _drop_what_is_dead(part.graphs["eval"], fused.body)
    pairs = [_pairs(part.graphs["eval"], part.body) for part in parts]
    with torch.no_grad():
        for key in pairs[0].keys() & pairs[1].keys():
            _fold(fused.body, pairs[0][key])
            _hold_bias(fused.member_template.body, pairs[1][key])
            for one in (pairs[0][key], pairs[1][key]):
                _rewire(one)
    for part in parts:
        _clear(part.graphs["eval"], part.body)
        part.recompile()
    fused.__dict__["fused"] = True
    return fused


# -- what can be folded ----------------------------------------------------------------------------------------------


def _pairs(graph: fx.Graph, body: nn.Module) -> dict[tuple[str, str], _Pair]:
    found = (_pair(node, graph, body) for node in graph.nodes)
    return {pair.key: pair for pair in found if pair is not None}


def _pair(node: fx.Node, graph: fx.Graph, body: nn.Module) -> _Pair | None:
    """A batch norm and the layer that alone it reads, whose tensors nothing else reads."""
    norm = _norm_of(node, body)
    layer = _layer_before(node) if norm is not None else None
    if norm is None or layer is None:
        return None
    weight, bias = _moved(argument_of(layer, 1, "weight", None)), _moved(argument_of(layer, 2, "bias", None))
    tensors = [one for one in (weight, bias) if one is not None]
    if any(not isinstance(one, fx.Node) or one.op != "get_attr" or _readers(graph, str(one.target)) != 1 for one in tensors):
        return None
    if any(name is not None and _readers(graph, name) > 1 for name in (norm.mean, norm.var, norm.weight, norm.bias)):
        return None
    return _Pair(layer, node, str(weight.target), None if bias is None else str(bias.target), norm, layer.target in _TRANSPOSED)


def _norm_of(node: fx.Node, body: nn.Module) -> _Norm | None:
    """The tensors of a batch norm that uses its statistics."""
    if node.op == "call_module":
        module: Any = body.get_submodule(str(node.target))
        if not isinstance(module, _BatchNorm) or module.running_mean is None:
            return None
        names = [f"{node.target}.{name}" if getattr(module, name) is not None else None for name in ("weight", "bias")]
        return _Norm(f"{node.target}.running_mean", f"{node.target}.running_var", names[0], names[1], module.eps)
    if node.op != "call_function" or node.target not in _BATCH_NORMS or len(node.args) < 1 or argument_of(node, 5, "training", False):
        return None
    statistics, affine = ("running_mean", "running_var"), ("weight", "bias")
    order = (*statistics, *affine) if node.target is F.batch_norm else (*affine, *statistics)
    given = {name: argument_of(node, place, name, None) for place, name in enumerate(order, 1)}
    if any(not (one is None or (isinstance(one, fx.Node) and one.op == "get_attr")) for one in given.values()):
        return None
    own = {name: None if one is None else str(one.target) for name, one in given.items()}
    if own["running_mean"] is None or own["running_var"] is None:
        return None
    return _Norm(own["running_mean"], own["running_var"], own["weight"], own["bias"], float(argument_of(node, 7, "eps", 1e-5)))


def _layer_before(node: fx.Node) -> fx.Node | None:
    """The conv or linear layer whose output only this norm reads, perhaps moved to another layout."""
    source = _moved(node.args[0] if node.args else None)
    if not isinstance(source, fx.Node) or source.op != "call_function" or len(source.users) != 1:
        return None
    if source.target in CONVS or source.target in _TRANSPOSED:
        return source
    value = node.meta.get("val")  # of more axes, a linear layer's features are not the norm's channels
    return source if source.target in _LINEAR and isinstance(value, Tensor) and value.dim() == 2 else None


def _moved(source: Any) -> Any:
    """What is behind a move to another layout that only one call reads."""
    while isinstance(source, fx.Node) and source.op == "call_function" and source.target in _MOVES and len(source.users) == 1:
        source = source.args[0]
    return source


def _readers(graph: fx.Graph, name: str) -> int:
    """How many calls read a tensor, the modules that hold it among them."""
    direct = sum(len(node.users) for node in graph.find_nodes(op="get_attr") if str(node.target) == name)
    return direct + sum(name.startswith(f"{node.target}.") for node in graph.find_nodes(op="call_module"))


# -- folding ---------------------------------------------------------------------------------------------------------


def _fold(body: nn.Module, pair: _Pair) -> None:
    """Change the layer's weight, and give it a bias."""
    norm, weight = pair.norm, _tensor(body, pair.weight)
    mean, var = _tensor(body, norm.mean).double(), _tensor(body, norm.var).double()
    scale = (var + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * _tensor(body, norm.weight).double()
    bias = torch.zeros_like(mean) if pair.bias is None else _tensor(body, pair.bias).double()
    shift = (bias - mean) * scale
    if norm.bias is not None:
        shift = shift + _tensor(body, norm.bias).double()
    if pair.transposed:  # "(g i) o ...": the outputs of a group are on the second axis
        groups = int(argument_of(pair.layer, 6, "groups", 1))
        grouped = weight.double().unflatten(0, (groups, -1))
        folded = (grouped * scale.view(groups, 1, -1, *[1] * (weight.dim() - 2))).flatten(0, 1)
    else:
        folded = weight.double() * scale.view(-1, *[1] * (weight.dim() - 1))
    weight.copy_(folded)
    _set_parameter(body, _bias_name(pair), shift.to(weight.dtype))


def _hold_bias(body: nn.Module, pair: _Pair) -> None:
    """Give one member's layer, which has no data, a bias of the right shape."""
    if pair.bias is None:
        weight = _tensor(body, pair.weight)
        _set_parameter(body, _bias_name(pair), weight.new_empty(_tensor(body, pair.norm.mean).shape))


def _bias_name(pair: _Pair) -> str:
    path, _, name = pair.weight.rpartition(".")
    own = "bias" if name == "weight" else f"{name}_bias"
    return pair.bias or (f"{path}.{own}" if path else own)


def _set_parameter(body: nn.Module, name: str, value: Tensor) -> None:
    path, _, own = name.rpartition(".")
    body.get_submodule(path)._parameters[own] = nn.Parameter(value, requires_grad=False)


def _tensor(body: nn.Module, name: str) -> Tensor:
    path, _, own = name.rpartition(".")
    module = body.get_submodule(path)
    found: Tensor | None = module._parameters.get(own)
    return module._buffers[own] if found is None else found  # type: ignore[return-value]


def _rewire(pair: _Pair) -> None:
    """The layer adds its bias, and what read the norm reads the layer."""
    layer, graph = pair.layer, pair.layer.graph
    if pair.bias is None:
        with graph.inserting_before(layer):
            bias = graph.get_attr(_bias_name(pair))
        bias.meta = {**_moved(argument_of(layer, 1, "weight", None)).meta}
        bias.meta.pop("val", None)
        if len(layer.args) > 2:
            layer.args = (*layer.args[:2], bias, *layer.args[3:])
        else:
            layer.kwargs = {**layer.kwargs, "bias": bias}
    _leave_out(pair.norm_node)


def _leave_out(node: fx.Node) -> None:
    """Whatever reads a node reads what it reads."""
    source: Any = node.args[0]
    source.meta["recorded"] = (*source.meta.get("recorded", ()), *node.meta.get("recorded", ()))
    node.replace_all_uses_with(source)
    node.graph.erase_node(node)


def _drop_what_is_dead(graph: fx.Graph, body: nn.Module) -> None:
    """Dropout does nothing in evaluation mode."""
    for node in list(graph.nodes):
        if not node.args or not isinstance(node.args[0], fx.Node):
            continue
        module = node.op == "call_module" and isinstance(body.get_submodule(str(node.target)), nn.modules.dropout._DropoutNd)
        function = node.op == "call_function" and node.target in _DROPOUTS and not argument_of(node, 2, "training", True)
        if module or function:
            _leave_out(node)


def _clear(graph: fx.Graph, body: nn.Module) -> None:
    """Drop what nothing reads any more: nodes, and then the tensors of norms that are never called."""
    for node in reversed(list(graph.nodes)):
        if node.op == "get_attr" and not node.users:
            graph.erase_node(node)
    read = {str(node.target) for node in graph.find_nodes(op="get_attr")}
    called = [str(node.target) for node in graph.find_nodes(op="call_module")]
    for path, module in body.named_modules():
        if any(f"{path}.".startswith(f"{name}.") for name in called):
            continue
        for held in (module._parameters, module._buffers):
            for name in [name for name in held if f"{path}.{name}".lstrip(".") not in read and _is_statistic(name, module, read, path)]:
                held[name] = None


def _is_statistic(name: str, module: nn.Module, read: set[str], path: str) -> bool:
    """A tensor of a batch norm that has been folded."""
    own = {key for held in (module._parameters, module._buffers) for key in held}
    return "running_mean" in own and f"{path}.running_mean".lstrip(".") not in read and name in (
        "weight", "bias", "running_mean", "running_var", "num_batches_tracked",
    )  # fmt: skip
