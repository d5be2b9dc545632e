"""Running a packed network and its members on the same inputs, and looking at what their nodes compute."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from packify.core import nested
from packify.nn.graph_network import GraphNetwork
from packify.nn.packed_network import PackedNetwork


def arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Example inputs as arguments: a tensor, a tuple of positional or a dict of keyword arguments."""
    if isinstance(inputs, dict):
        return (), inputs
    return (inputs if isinstance(inputs, tuple) else (inputs,)), {}


def call(function: Callable[..., Any], inputs: Any) -> Any:
    """What a network or a method of its returns for these inputs."""
    args, kwargs = arguments(inputs)
    return function(*args, **kwargs)


def floating(value: Any) -> list[Tensor]:
    """The floating tensors among outputs, complex ones as pairs."""
    leaves = [leaf for leaf in nested.flatten(value)[0] if isinstance(leaf, Tensor)]
    reals = [torch.view_as_real(leaf.resolve_conj()) if leaf.is_complex() else leaf for leaf in leaves]
    return [leaf for leaf in reals if leaf.is_floating_point()]


def relative(a: Tensor, b: Tensor) -> float:
    """Largest difference over the largest value; NaN compares equal to NaN."""
    if a.shape != b.shape:
        return float("inf")
    a, b = (tensor.detach() if tensor.dtype.itemsize >= 4 else tensor.detach().float() for tensor in (a, b))
    if not a.numel():
        return 0.0
    scale, error = float(torch.maximum(a.abs().max(), b.abs().max())), float((a - b).abs().max())
    if not (math.isfinite(scale) and math.isfinite(error)):
        a, b = torch.nan_to_num(a.double()), torch.nan_to_num(b.double())
        scale, error = float(torch.maximum(a.abs().max(), b.abs().max())), float((a - b).abs().max())
    return error / scale if scale else 0.0


@dataclass(frozen=True)
class Batch:
    """What a packed network is run on to be compared with its members.

    Attributes:
        values: inputs as for ``forward``.
        independent: they are ``"(m b) ..."``, one batch per member, for the graph of independent inputs.
    """

    values: Any
    independent: bool = False

    def form(self, network: GraphNetwork) -> str:
        """The key of the graph that runs."""
        return "independent" if self.independent else "train" if network.training else "eval"

    def of(self, network: PackedNetwork, member: int) -> Any:
        """One member's inputs."""
        if not self.independent:
            return self.values

        def own(leaf: Any) -> Any:
            return leaf.chunk(network.num_estimators)[member] if isinstance(leaf, Tensor) else leaf

        return nested.map_leaves(self.values, own, in_dataclasses=True)

    def members(self, network: PackedNetwork) -> list[Tensor]:
        """Every member's floating outputs, ``"m b ..."``, side by side."""
        return floating(list(network.run_form(self.form(network), *arguments(self.values))))


class Observer(fx.Interpreter):
    """Runs a graph and keeps every floating tensor it computes."""

    def __init__(self, body: nn.Module, graph: fx.Graph) -> None:
        super().__init__(body, garbage_collect_values=False, graph=graph)
        self.seen: dict[fx.Node, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor) and value.is_floating_point():
            self.seen[n] = value
        return value


def observe(network: GraphNetwork, batch: Batch) -> tuple[Observer, tuple[Any, ...]]:
    """A run of the graph that a batch is for, and its outputs."""
    watch = Observer(network.body, network.graphs[batch.form(network)])
    args, kwargs = arguments(batch.values)
    return watch, watch.run(*network.interface.flat_inputs(args, kwargs))
