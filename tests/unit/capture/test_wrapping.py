"""Modules of the copy that is recorded: those kept whole are one node each, the others are looked into."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from packify.capture.graphs import record_graphs
from packify.capture.wrapping import DEFAULT_LEAVES, _is_leaf

X = torch.randn(3, 4)


class _Own(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.exp() + 1


def _calls(model: nn.Module, **options: Any) -> list[str]:
    graph = record_graphs(model, X, **options).graphs["eval"]
    return [str(node.target) if node.op == "call_module" else node.meta["op"] for node in graph.nodes if node.op.startswith("call")]


def test_layers_that_switch_with_the_mode_are_one_node_each() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(), _Own())
    assert _calls(model) == ["linear", "1", "2", "exp", "add"]
    assert _calls(model, leaves=(_Own,)) == ["linear", "1", "2", "3"]
    assert "forward" not in vars(model[1])
    assert all("_compiled_call_impl" not in vars(module) or module._compiled_call_impl is None for module in model.modules())


def test_the_network_itself_is_always_looked_into() -> None:
    assert _calls(_Own(), leaves=(_Own,)) == ["exp", "add"]


class _Louder(nn.BatchNorm1d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


class _Named(nn.BatchNorm1d):
    """Says nothing new."""


@pytest.mark.parametrize("kind", DEFAULT_LEAVES)
def test_torchs_own_layers_are_kept_whole(kind: Any) -> None:
    module = kind(4, 4) if issubclass(kind, nn.RNNBase) else kind() if "Dropout" in kind.__name__ else kind(4)
    assert _is_leaf(module, ())


def test_layers_that_are_more_than_torchs_are_looked_into() -> None:
    assert _is_leaf(_Named(4), ())
    assert not _is_leaf(_Louder(4), ())
    assert not _is_leaf(nn.Linear(4, 4), ())
    assert _is_leaf(_Louder(4), (nn.BatchNorm1d,))  # because the user says so
    hooked = nn.BatchNorm1d(4)
    hooked.register_forward_pre_hook(lambda module, inputs: inputs)
    assert not _is_leaf(hooked, ())
    changed = nn.BatchNorm1d(4)
    parametrize.register_parametrization(changed, "weight", nn.Identity())
    assert not _is_leaf(changed, ())
