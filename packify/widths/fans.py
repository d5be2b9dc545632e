"""Which axes of a weight a layer sums over, and which statistics are of what a layer computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import fx, nn

from packify.capture.operators import traits_of
from packify.widths.weights import argument

# Between a parameter and the layer that reads it these hand its numbers on, so that what scales one scales the other. What normalises a
# weight (weight norm, spectral norm, standardisation) is not among them, and follows a narrower weight by itself.
_HANDED_ON = frozenset(
    "getitem chunk split unbind narrow select reshape view flatten unflatten squeeze unsqueeze to contiguous clone detach".split()
)
_NORMS = frozenset("BatchNorm1d BatchNorm2d BatchNorm3d SyncBatchNorm batch_norm".split())


def summed_axes(root: nn.Module, graphs: Mapping[str, fx.Graph], rules: Mapping[Any, Any]) -> dict[str, tuple[int, ...]]:
    """By parameter, the axes whose elements a layer sums; what two layers read differently is left out."""
    found: dict[str, tuple[int, ...]] = {}
    refused: set[str] = set()
    for graph in graphs.values():
        for name, axes in (pair for node in graph.nodes for pair in _summed_by(root, node, traits_of(rules, node))):
            if found.setdefault(name, axes) != axes:
                refused.add(name)
    return {name: axes for name, axes in found.items() if name not in refused}


def _summed_by(root: nn.Module, node: fx.Node, traits: frozenset[str]) -> Iterator[tuple[str, tuple[int, ...]]]:
    op = node.meta.get("op")
    if "layer" in traits:
        axis = 0 if "transpose" in str(op) else 1
        yield from ((name, (axis,)) for name in _parameters_behind(argument(node, "weight"), axis))
    elif op == "bilinear":
        yield from ((name, (1, 2)) for name in _parameters_behind(argument(node, "weight"), 1))
    elif op in ("matmul", "bmm", "mm"):
        for position, axis in ((0, -1), (1, -2)):
            operand = node.args[position] if len(node.args) > position else None
            if isinstance(operand, fx.Node) and operand.op == "get_attr" and operand.meta["val"].dim() >= 2:
                yield str(operand.target), (axis % operand.meta["val"].dim(),)
    elif node.op == "call_module" and isinstance(module := root.get_submodule(str(node.target)), nn.RNNBase):
        yield from ((f"{node.target}.{name}", (1,)) for name, own in module.named_parameters() if own.dim() == 2)


def _parameters_behind(weight: Any, axis: int) -> Iterator[str]:
    """The parameters that a layer's weight is, or is a piece of, with the same summed axis."""
    waiting, seen = [weight], set()
    while waiting:
        node = waiting.pop()
        if not isinstance(node, fx.Node) or node in seen:
            continue
        seen.add(node)
        if node.op == "get_attr":
            shapes = [source.meta["val"].shape for source in (node, weight)]
            if len(shapes[0]) == len(shapes[1]) and shapes[0][axis] == shapes[1][axis]:
                yield str(node.target)
        elif node.meta.get("op") in _HANDED_ON:
            waiting += [source for source in node.all_input_nodes if isinstance(source.meta["val"], (torch.Tensor, tuple, list))]


def running_means(graphs: Mapping[str, fx.Graph], rules: Mapping[Any, Any]) -> dict[str, tuple[str, str | None]]:
    """By running mean of a norm that reads a layer directly, the layer's weight and bias."""
    found: dict[str, tuple[str, str | None]] = {}
    for graph in graphs.values():
        for node in graph.nodes:
            layer = node.args[0] if node.args else None
            if node.meta.get("op") not in _NORMS or not isinstance(layer, fx.Node) or "layer" not in traits_of(rules, layer):
                continue
            mean = f"{node.target}.running_mean" if node.op == "call_module" else _name(argument(node, "running_mean"))
            weight, bias = _name(argument(layer, "weight")), _name(argument(layer, "bias"))
            if mean is not None and weight is not None:
                found[mean] = (weight, bias)
    return found


def _name(node: Any) -> str | None:
    return str(node.target) if isinstance(node, fx.Node) and node.op == "get_attr" else None
