from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx

import packify
from packify.capture.batch import TRACING_BATCH, signature_of
from packify.capture.graphs import record_graphs
from packify.core.errors import TraceError
from tests.unit.capture.small import Small


@pytest.mark.parametrize(
    "function",
    [
        lambda h: h * len(h) / h.shape[0],
        lambda h: torch.stack([row * 2 for row in h]),
        lambda h: torch.cat([h[i : i + 1] for i in range(h.shape[0])]),
        lambda h: h / float(h.shape[0]) if h.shape[0] > 6 else h,
    ],
)
def test_a_baked_batch_size_is_refused_or_right(function: Any) -> None:
    model, x = Small(function), torch.randn(9, 5)
    try:
        packed = packify.pack_members([model], x)
    except packify.TraceError as error:
        if "test_batch.py" not in str(error):
            raise
        return
    for batch in (3, 9):
        torch.testing.assert_close(packed.members(x[:batch])[0], model(x[:batch]))


def _recorded(function: Any) -> fx.Graph:
    return record_graphs(Small(function), torch.randn(2, 5)).graphs["eval"]


@pytest.mark.parametrize(
    "function",
    [
        lambda h: h.new_zeros(3 * int(h.shape[0]) + 2, 4),
        lambda h: h.repeat(int(h.shape[0]) - 1, 1),
        lambda h: h[: int(h.shape[0]) - 2],
    ],
)
def test_numbers_of_the_batch_follow_it(function: Any) -> None:
    """What ``int()`` has made a plain number is computed from the input's size again."""
    torch.manual_seed(0)
    model = Small(function)
    recorded = record_graphs(model, torch.randn(2, 5))
    assert (recorded.batch, recorded.any_batch) == (TRACING_BATCH, True)
    root = Small(function)
    for batch in (4, 9):
        x = torch.randn(batch, 5)
        (found,) = fx.Interpreter(root, graph=recorded.graphs["eval"]).run(x)
        torch.testing.assert_close(found, root(x))


@pytest.mark.parametrize(
    "function",
    [
        lambda h: h * int(h.shape[0]) ** 2,
        lambda h: sum(h[place] for place in range(int(h.shape[0]))) + h,
        lambda h: h * torch.arange(int(h.shape[0]))[:, None],
    ],
)
def test_what_follows_in_another_way_is_refused_by_line_or_right(function: Any) -> None:
    try:
        graph = _recorded(function)
    except TraceError as error:
        assert "test_batch.py" in error.where  # noqa: PT017
        assert "one batch size only" in error.why  # noqa: PT017
        return
    x, root = torch.randn(9, 5), Small(function)
    torch.testing.assert_close(fx.Interpreter(root, graph=graph).run(x)[0], root(x))


def test_a_network_that_takes_one_batch_size_is_recorded_at_it() -> None:
    def function(h: Tensor) -> Tensor:
        return h.view(3, 4)

    recorded = record_graphs(Small(function), torch.randn(3, 5))
    assert (recorded.batch, recorded.any_batch) == (3, False)


def test_graphs_are_compared_by_what_they_call() -> None:
    one, same, other = _recorded(torch.relu), _recorded(torch.relu), _recorded(torch.tanh)
    assert signature_of(one) == signature_of(same)
    assert signature_of(one) != signature_of(other)
    next(node for node in same.nodes if node.target is torch.relu).args = (next(iter(same.nodes)),)
    assert signature_of(one) != signature_of(same)
