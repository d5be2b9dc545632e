"""Small packed networks, and ways to break one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import packify
from packify.laws.observation import Batch

X = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
BATCH = Batch(X.double())


def packed(**settings: Any) -> packify.PackedNetwork:
    """Two linear layers with a tanh between them, two members, in float64."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()
    return packify.pack(model, X.double(), **{"alpha": 2, "num_estimators": 2, "average": "mean"} | settings)


def broken(change: Callable[[Tensor], Tensor]) -> packify.PackedNetwork:
    """The same with a function, of the packed tensor alone, behind its tanh."""
    network = packed()
    graph = network.graphs["eval"]
    (tanh,) = (node for node in graph.nodes if node.meta.get("op") == "tanh")
    with graph.inserting_after(tanh):
        changed = graph.call_function(change, (tanh,))
    tanh.replace_all_uses_with(changed, lambda user: user is not changed)
    changed.meta = dict(tanh.meta)
    network.recompile()
    return network


def unequal(x: Tensor) -> Tensor:
    """Another result for the first member."""
    return x + torch.eye(1, x.shape[0], dtype=x.dtype)[0].view(-1, *[1] * (x.dim() - 1))


def mixed(x: Tensor) -> Tensor:
    """The same result, and a gradient to every member."""
    return x + 0 * x.sum()


def steeper(x: Tensor) -> Tensor:
    """The same result, and twice the gradient."""
    return 2 * x - x.detach()
