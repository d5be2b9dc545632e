"""Which node of the user's network an exporter could not take: its qualified name, its operator and the user's line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, fx

from packify.core import nested
from packify.exporting.deployment import Deployment
from packify.nn.graph_network import GraphNetwork
from packify.nn.packed_network import PackedNetwork


class _Located(fx.Interpreter):
    """Runs a flat graph and knows which node it is at; what is traced meanwhile carries that node's place."""

    def __init__(self, network: GraphNetwork) -> None:
        graph = network.graphs["eval"]
        super().__init__(network.body, garbage_collect_values=False, graph=graph)
        self.at: fx.Node | None = None

    def run_node(self, n: fx.Node) -> Any:
        self.at = n
        with torch.fx.traceback.preserve_node_meta():
            return super().run_node(n)

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        with self._marked():
            return super().call_function(target, args, kwargs)

    def call_method(self, target: Any, args: Any, kwargs: Any) -> Any:
        with self._marked():
            return super().call_method(target, args, kwargs)

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        with self._marked():
            return super().call_module(target, args, kwargs)

    def _marked(self) -> AbstractContextManager[None]:
        return torch.fx.traceback.annotate({"packify": described(self.at) if self.at is not None else ""})


class _Traced(Deployment):
    """The same deployment, node by node."""

    def members(self, *tensors: Tensor) -> Any:
        network: Any = self.network
        leaves = list(self.leaves)
        for index, tensor in zip(self.tensors, tensors, strict=True):
            leaves[index] = tensor.to(self.dtype) if tensor.is_floating_point() else tensor
        given = nested.unflatten(self.template, leaves)
        args, kwargs = ((), given) if isinstance(given, dict) else (given if isinstance(given, tuple) else (given,), {})
        self.__dict__["located"] = located = _Located(network)
        found = network.restructure(list(located.run(*network.flat_inputs(args, kwargs))))
        return found if isinstance(network, PackedNetwork) else nested.map_leaves(found, _as_one_member)


def described(node: fx.Node) -> str:
    """``"layer1.0.conv1: conv2d (nets.py:12)"``."""
    path, op, source = (str(node.meta.get(key) or "") for key in ("path", "op", "source"))
    return f"{path or node.name}: {op or node.target}" + (f" ({source})" if source else "")


def place_of_failure(deployment: Deployment, inputs: Sequence[Tensor]) -> str:
    """The node at which torch.export fails; empty where the network has no graph, or does not fail node by node."""
    traced = _traced(deployment)
    if traced is None:
        return ""
    try:
        with torch.no_grad():
            torch.export.export(traced, tuple(inputs), strict=False)
    except Exception:
        at = getattr(traced.__dict__.get("located"), "at", None)
        return "" if at is None else described(at)
    return ""


def place_of_operator(deployment: Deployment, inputs: Sequence[Tensor], said: str) -> tuple[str, str]:
    """The place and the name of the aten operator that an exporter's message is about; empty where it names none.

    Args:
        deployment: what is exported.
        inputs: tensors to trace with.
        said: the message, and those behind it.
    """
    match = _OPERATOR.search(said)
    if match is None:
        return "", ""
    name = ".".join(match.groups())
    traced = _traced(deployment)
    if traced is None:
        return "", name
    try:
        with torch.no_grad():
            program = torch.export.export(traced, tuple(inputs), strict=False)
    except Exception:
        return "", name
    # what is said may be a part of the operator: prims.bessel_j0 of aten.special_bessel_j0
    nodes = [node for node in program.graph.nodes if node.op == "call_function" and match[2].strip("_") in str(node.target)]
    places = [str((node.meta.get("custom") or {}).get("packify", "")) for node in nodes]
    return next(filter(None, places), ""), name


_OPERATOR = re.compile(r"(?:OpOverload\(op='|torch\.ops\.)(\w+)\.(\w+)(?:', overload=')?\.?(\w+)")


def _traced(deployment: Deployment) -> _Traced | None:
    if not isinstance(deployment.network, GraphNetwork):
        return None
    return _Traced(deployment.network, nested.unflatten(deployment.template, deployment.leaves), deployment.parts, deployment.average)


def _as_one_member(leaf: Any) -> Any:
    return leaf[None] if isinstance(leaf, Tensor) else leaf
