"""Calls run in place again where nothing reads the old value, or a view of it, afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from packify.capture.graphs import record_graphs
from tests.unit.capture.small import Small


def _inplace(function: Callable[[Tensor], Any]) -> list[str]:
    graph = record_graphs(Small(function), torch.randn(3, 5)).graphs["eval"]
    return [str(node.target) for node in graph.nodes if node.meta.get("inplace")]


def _then(write: Callable[[Tensor], Any], after: Callable[[Tensor, Any], Any], before: Callable[[Tensor], Any] = lambda h: None) -> Any:
    """What is kept of a tensor before a write, the write, and what is computed after it."""

    def function(h: Tensor) -> Any:
        h = h * 2
        kept = before(h)
        write(h)
        return after(h, kept)

    return function


@pytest.mark.parametrize(
    ("function", "inplace"),
    [
        (_then(lambda h: h.add_(1), lambda h, _: h), ["add_"]),
        (_then(lambda h: h.add_(1).relu_(), lambda h, _: h), ["add_", "relu_"]),
        (_then(lambda h: h.add_(1), lambda h, kept: h + kept, lambda h: h * 1), ["add_"]),  # a copy of it is read
        (_then(lambda h: h.add_(1), lambda h, kept: h * kept, lambda h: h.shape[0]), ["add_"]),  # its size is read
        (lambda h: (h.add_(1), h)[1], ["add_"]),
    ],
)
def test_what_nothing_reads_again_is_written_over(function: Any, inplace: list[str]) -> None:
    assert _inplace(function) == inplace


@pytest.mark.parametrize(
    "function",
    [
        lambda h: (h + 0).add_(h).mul_(h),
        lambda h: torch.stack([(h + 0).add_(1), h]),
        _then(lambda h: h.add_(1), lambda h, kept: h + kept, lambda h: h.view(-1, 2, 2).sum(1).mean()),
        _then(lambda h: h[:, 0].add_(1), lambda h, kept: h + kept, lambda h: h.exp()),
        _then(lambda h: h.relu_(), lambda h, kept: h + kept, lambda h: h[:, :1]),  # a view is read afterwards
    ],
)
def test_results_are_the_same_as_of_the_code(function: Any) -> None:
    torch.manual_seed(0)
    model = Small(function)
    recorded = record_graphs(model, torch.randn(3, 5))
    x = torch.randn(4, 5)
    (found,) = torch.fx.Interpreter(model, graph=recorded.graphs["eval"]).run(x)
    torch.testing.assert_close(found, model(x))


def test_inputs_and_parameters_are_never_written_over() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.scale = nn.Linear(5, 4), nn.Parameter(torch.ones(5))

        def forward(self, x: Tensor) -> Tensor:
            x = x.view(x.shape)
            x.add_(1)
            return self.fc(x)

    graph = record_graphs(Net(), torch.randn(3, 5)).graphs["eval"]
    assert not [node for node in graph.nodes if node.meta.get("inplace")]


def test_a_module_kept_whole_may_return_what_it_was_given() -> None:
    class Same(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.same, self.out = nn.Linear(5, 4), Same(), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.fc(x)
            kept = self.same(x)
            y = x * 1
            y.add_(1)
            return self.out(y) + kept

    graph = record_graphs(Net(), torch.randn(3, 5), leaves=(Same,)).graphs["eval"]
    assert [str(node.target) for node in graph.nodes if node.meta.get("inplace")] == ["add_"]
