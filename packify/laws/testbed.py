"""A copy of a packed network that laws can be checked on: random weights and inputs, no dropout, no masks drawn at random."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from packify.capture.binding import rewritten
from packify.capture.operators import operator_of
from packify.core import nested
from packify.core.errors import LawBroken
from packify.nn.block import base_of
from packify.nn.members import Method, PerMember
from packify.nn.packed_network import PackedNetwork
from packify.nn.wrappers import remove_wrappers


def make_test_bed(packed: PackedNetwork, dtype: torch.dtype) -> PackedNetwork:
    """A copy in another dtype, without dropout, which no two runs draw alike.

    Raises:
        LawBroken: the network has no data.
    """
    if any(tensor.is_meta for tensor in (*packed.parameters(), *packed.buffers())):
        raise LawBroken(
            "packed", found="tensors on the meta device", why="there is nothing to compute with", fix="pack a reference that has weights"
        )
    network = copy.deepcopy(packed)
    remove_wrappers(network)
    network._apply(lambda tensor: _cast(tensor, dtype))  # type: ignore[no-untyped-call]
    for module in (*network.modules(), *network.member_template.body.modules()):
        if isinstance(module, _DROPOUTS):
            module.p = 0.0
        if isinstance(module, nn.RNNBase):
            module.dropout = 0.0
    for graph in {id(graph): graph for part in (network, network.member_template) for graph in part.graphs.values()}.values():
        _without_dropout(graph)
        _without_chance(graph)
    for part in (network, network.member_template):
        _with_repeated_chance(part.body, network.leaves)
        part.recompile()
    return network


def take_chance_out(graph: fx.Graph, body: nn.Module, leaves: tuple[type[nn.Module], ...]) -> None:
    """Make a graph and the modules that it calls draw nothing, or the same in every run."""
    for module in body.modules():
        if isinstance(module, _DROPOUTS):
            module.p = 0.0
        if isinstance(module, nn.RNNBase):
            module.dropout = 0.0
    _without_dropout(graph)
    _without_chance(graph)
    _with_repeated_chance(body, leaves)


def twin(network: PackedNetwork) -> PackedNetwork:
    """A copy with tensors of its own that runs the same graphs: what it writes to, `network` does not see."""
    shared = (network.member_template, network.report, *network.graphs.values())
    return copy.deepcopy(network, {id(one): one for one in shared})


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if tensor.is_complex():
        return tensor.to(torch.complex128 if dtype == torch.float64 else torch.complex64)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def _without_dropout(graph: fx.Graph) -> None:
    """Functional dropout with probability 0, so that two runs can be compared."""
    for node in graph.nodes:
        target: Any = node.target
        function = target.function if isinstance(target, PerMember) else target
        if node.op != "call_function" or function is None:
            continue
        if function is F.scaled_dot_product_attention:
            node.args, node.kwargs = rewritten(node, {"dropout_p": 0.0})
        elif "dropout" in operator_of(function).name:
            node.args, node.kwargs = rewritten(node, {"p": 0.0})


@dataclass(frozen=True)
class Filled:
    """A function that draws at random, with every element of its result replaced by one number."""

    function: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self.function(*args, **kwargs)
        if not isinstance(result, Tensor):
            return result
        if result.requires_grad and not (args and result is args[0]):
            return result * 0 + 1  # what is computed from drawn numbers keeps its history
        with torch.no_grad():
            return result.fill_(1)

    @property
    def __name__(self) -> str:
        return str(getattr(self.function, "__name__", "filled"))


def _without_chance(graph: fx.Graph) -> None:
    """Tensors drawn inside the graph hold the same number in every run."""
    for node in graph.nodes:
        target: Any = node.target
        function = target.function if isinstance(target, PerMember) else target
        if node.op not in ("call_function", "call_method") or function is None:
            continue
        name = operator_of(Method(str(function)) if node.op == "call_method" else function).name
        if not node.meta.get("random") or name != node.meta["op"] or "dropout" in name:
            continue
        filled = Filled(Method(str(target)) if node.op == "call_method" else function)
        node.op, node.target = "call_function", replace(target, function=filled) if isinstance(target, PerMember) else filled


class _Repeating(nn.Module):
    """What is put in front of the class of a module kept whole: every call of it draws the same, for its code is its own."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return super().forward(*args, **kwargs)


def _with_repeated_chance(body: nn.Module, leaves: tuple[type[nn.Module], ...]) -> None:
    """Modules kept whole draw the same for a member side by side with others and for the same member alone."""
    for module in body.modules():
        if isinstance(module, leaves):
            kind = base_of(module)
            module.__class__ = type(kind.__name__, (_Repeating, kind), {})


def randomise(network: PackedNetwork) -> None:
    """Every floating tensor of every member different and neither zero nor huge, so that nothing is hidden by an initial zero."""
    with torch.no_grad():
        for parameter in network.parameters():
            fan = max(1, math.prod(parameter.shape[1:]))
            noise = torch.randn_like(parameter) / fan**0.5 if parameter.dim() > 1 else 0.1 * torch.randn_like(parameter)
            center = parameter.mean() if parameter.dim() <= 1 else 0.0
            parameter.copy_(noise + center)
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)


Draw = Callable[..., Tensor]
STANDARD: Draw = torch.randn
POSITIVE: Draw = torch.rand


def random_inputs(network: PackedNetwork, x: Any, example: Any, batch: int, dtype: torch.dtype, draw: Draw = STANDARD) -> Any:
    """The inputs `x` in another dtype, or, if it is None, random ones shaped like `example`: ``"b ..."``.

    A network that takes its example's batch only gets that one.
    """
    device = next((tensor.device for tensor in (*network.parameters(), *network.buffers())), torch.device("cpu"))

    def make(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if x is not None:
            return _cast(leaf, dtype).clone()
        shape = (batch if network.batched else leaf.shape[0], *leaf.shape[1:]) if leaf.dim() else ()
        if leaf.is_floating_point() or leaf.is_complex():
            return _cast(draw(shape, dtype=dtype, device=device).to(leaf.dtype), dtype)
        return torch.zeros(shape, dtype=leaf.dtype, device=device).random_(0, 2)

    return nested.map_leaves(example if x is None else x, make, in_dataclasses=True)
