from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import packify
from packify.execution.part_in_turn import _written_inputs, reason_against_turns
from packify.nn.layouts import Layout
from packify.nn.ports import Ports


class Around(nn.Module):
    """A part between two layers."""

    def __init__(self, part: nn.Module, call: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.before, self.part, self.after, self.call = nn.Linear(6, 8), part, nn.Linear(8, 3), call

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.call(self.part, self.before(x)))


class Pair(nn.Module):
    """Takes two tensors and a number, one by keyword; returns a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x: Tensor, scale: float, *, other: Tensor) -> dict[str, Any]:
        return {"sum": self.inner(x) * scale + other, "both": (x, other)}


class Overwriting(nn.Module):
    """Writes to what it is given, as layers in place do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x.mul_(2)
        return self.inner(nn.functional.relu_(x))


def _pair(part: nn.Module, x: Tensor) -> Tensor:
    out = part(x, 0.5, other=x.cos())
    return out["sum"] + out["both"][1]


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module, Tensor], Tensor]]] = {
    "several tensors": (Pair, _pair),
    "writes to its input": (Overwriting, lambda part, x: part(x.clone())),
    "attention": (
        lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True),
        lambda part, x: part(x[:, None].expand(-1, 3, -1)).mean(1),
    ),
    "instance norm": (
        lambda: nn.Sequential(nn.Conv1d(4, 4, 1), nn.InstanceNorm1d(4, affine=True)),
        lambda part, x: part(x.unflatten(1, (4, 2))).flatten(1),
    ),
    "recurrent": (lambda: nn.GRU(8, 8, batch_first=True), lambda part, x: part(x[:, None])[0][:, 0]),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_it_takes_and_returns_what_the_part_does(name: str, training: bool) -> None:
    torch.manual_seed(0)
    make, call = CASES[name]
    x = torch.randn(4, 6, dtype=torch.float64)
    packed: Any = packify.pack(Around(make(), call).double(), x, alpha=2, num_estimators=2).train(training)
    found = []
    for parts in ({}, {"part": "in turn"}):
        twin = copy.deepcopy(packed)
        twin.strategy = "grouped"
        try:
            twin.strategies = parts
        except packify.SpecError:
            assert name == "recurrent"  # its own code runs once per member anyway
            return
        output = twin.members(x)
        output.sin().sum().backward()
        found.append((output, {key: p.grad for key, p in twin.named_parameters()}))
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("writes", [True, False])
def test_it_is_seen_which_inputs_a_graph_writes_to(writes: bool) -> None:
    own = (Overwriting() if writes else nn.Sequential(nn.Linear(8, 8), nn.ReLU())).to("meta")
    graph = fx.symbolic_trace(own).graph
    (name,) = (str(node.target) for node in graph.find_nodes(op="placeholder"))
    found = _written_inputs(own, graph, Ports((Layout(None, (2, 8), torch.float32),), {}, None))
    assert found == ({name} if writes else set())
    assert _written_inputs(own, graph, Ports((None,), {}, None)) == {name}


def test_why_a_part_cannot_be_run_in_turn() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.shared, self.last, self.held = nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3), nn.ModuleList([nn.ReLU()])

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.held[0](self.shared(self.first(self.shared(x)))))

    packed = packify.pack(Twice(), torch.randn(2, 6), alpha=2, num_estimators=2)
    assert "several ways" in reason_against_turns(packed, "shared")
    assert "only holds other parts" in reason_against_turns(packed, "held")
    assert reason_against_turns(packed, "first") == ""
