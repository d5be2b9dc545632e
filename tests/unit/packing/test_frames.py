"""A flat graph cut into the calls of modules; modules whose code does more than to compute its result from its arguments: blocks compute,
and are called, as on the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import packify
from packify.packing.frames import Frame, is_number, is_repeatable, reads_attribute
from tests.unit.packing.trees import Network, calls_of, cut
from tests.zoo.calls import calls_differ

_X = torch.randn(2, 3, 6)


class _Scaled(nn.Module):
    """A linear layer that is called with and without a flag, and by keyword."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x: Tensor, scale: float = 1.0, *, flip: bool = False) -> Tensor:
        y = self.linear(x) * scale
        return -y if flip else y


class SharedInTwoWays(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.part, self.last = nn.Linear(6, 8), _Scaled(8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(self.part(self.part(self.part(x), flip=True), 0.5) + self.part(x))


class Foreign(nn.Module):
    """A part that reads a weight of another one, which its code reaches through a list."""

    class Reader(nn.Module):
        def __init__(self, other: nn.Linear) -> None:
            super().__init__()
            self.own, self.others = nn.Linear(8, 8), [other]

        def forward(self, x: Tensor) -> Tensor:
            return self.own(x) @ self.others[0].weight.t() + self.others[0](x)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.other, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 4)
        self.reader = self.Reader(self.other)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.reader(self.stem(x)))


class LeavesThingsBehind(nn.Module):
    """A part that hands values on by attributes instead of returning them, and writes to what it is given."""

    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.register = nn.Linear(8, 8), None
            self.kept: Any = None

        def forward(self, x: Tensor) -> Tensor:
            x.mul_(0.5)
            y = self.linear(x)
            self.kept = y.relu()
            return y

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.part, self.last = nn.Linear(6, 8), self.Part(), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.part(x)
        kept, self.part.kept = self.part.kept, None
        return self.last(x + y * kept)


@dataclass
class State:
    """What blocks hand to each other."""

    features: Tensor
    sizes: tuple[int, int]


class Structures(nn.Module):
    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, state: State, extra: dict[str, Any]) -> tuple[State, list[Any]]:
            x = self.linear(state.features).reshape(-1, *state.sizes, 8).relu()
            return State(x.flatten(1, 2), state.sizes), [x.mean(), extra["scale"], None]

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.parts, self.last = nn.Linear(6, 8), nn.ModuleList([self.Part(), self.Part()]), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        state, total = State(self.stem(x), (1, x.shape[1])), 0.0
        for part in self.parts:
            state, (mean, scale, _) = part(state, {"scale": 2.0, "unused": None})
            total = total + mean * scale
        return self.last(state.features + total)


class Interleaved(nn.Module):
    """Two parts whose halves are called in turns, one of them by a function that was handed over."""

    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: Tensor, between: Callable[[Tensor], Tensor]) -> Tensor:
            return self.second(between(self.first(x).relu()))

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two, self.last = nn.Linear(6, 8), self.Halves(), self.Halves(), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.one(self.stem(x), lambda y: self.two(y, torch.tanh)))


class PassesOn(nn.Module):
    """Parts that only pass on, choose, or make what they return of sizes."""

    class Choose(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return y if self.training else x

    class Table(nn.Module):
        def forward(self, tokens: int, like: Tensor) -> Tensor:
            return torch.arange(tokens, device=like.device, dtype=like.dtype).view(1, -1, 1)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.nothing, self.choose, self.table = nn.Linear(6, 8), nn.Identity(), self.Choose(), self.Table()
        self.drop, self.last = nn.Dropout(0.0), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.nothing(self.stem(x))
        return self.last(self.drop(self.choose(x, x.relu()) + self.table(x.shape[1], x)))


class Gathers(nn.Module):
    """A part that is given a tensor, and the same one in a list of what it is to read at its end."""

    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.last = nn.Linear(8, 8), nn.Linear(16, 8)

        def forward(self, x: Tensor, gathered: list[Tensor]) -> Tensor:
            return self.last(torch.cat([self.linear(x), *gathered], -1))

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.part, self.last = nn.Linear(6, 8), self.Part(), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(self.part(x, [x]))


class Counts(nn.Module):
    """A part with a buffer that it writes to, called twice, and a norm that is kept whole."""

    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.norm = nn.Linear(8, 8), nn.BatchNorm1d(8)
            self.register_buffer("seen", torch.zeros(8))

        def forward(self, x: Tensor) -> Tensor:
            y = self.norm(self.linear(x).transpose(1, 2)).transpose(1, 2)
            if self.training:
                self.seen.mul_(0.9).add_(0.1 * y.detach().mean((0, 1)))
            return y - self.seen

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.part, self.last = nn.Linear(6, 8), self.Part(), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.part(self.part(self.stem(x))))


_NETWORKS = (SharedInTwoWays, Foreign, LeavesThingsBehind, Structures, Interleaved, PassesOn, Gathers, Counts)


@pytest.mark.parametrize("kind", _NETWORKS)
def test_blocks_compute_and_are_called_as_on_the_reference(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = kind()
    packed = packify.pack(model, _X, alpha=2, num_estimators=2)
    packify.verify(packed)
    # a part whose code calls what is no part of its own is no block: its own calls are not seen, those of its parts are
    networks = (packed, packed.extract(1))
    if kind is Foreign:
        assert "reader" in calls_differ(model, networks, _X)
    elif kind is not Interleaved:
        assert calls_differ(model, networks, _X) == ""


@pytest.mark.parametrize("kind", _NETWORKS)
def test_blocks_compute_what_the_flat_graphs_do(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    packed = packify.pack(kind(), _X, alpha=2, num_estimators=2)
    for training in (False, True):
        one = packed.train(training).members(_X.clone())
        flat = torch.fx.Interpreter(packed.body, graph=packed.graphs["train" if training else "eval"])
        packed.load_state_dict(packed.state_dict())
        if kind is not Counts:
            assert torch.equal(one, flat.run(_X.clone())[0])


def test_the_report_says_which_blocks_are_called_otherwise() -> None:
    class Reads(nn.Module):
        def __init__(self, other: nn.Linear) -> None:
            super().__init__()
            self.own, self.others = nn.Linear(8, 8), [other]

        def forward(self, x: Tensor) -> Tensor:
            return self.own(x) @ self.others[0].weight.t()

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.other, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 4)
            self.reader = Reads(self.other)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.reader(self.other(self.stem(x))))

    def told(model: nn.Module) -> list[tuple[str, str]]:
        report = packify.pack(model, _X, alpha=2, num_estimators=2).report
        return [(note.node, note.what) for note in report.notes]

    assert ("reader", "is given other.weight") in told(Tied())
    assert ("part", "returns more than its result: relu, mul") in told(LeavesThingsBehind())
    assert ("other", "is no block in one of its calls") in told(Foreign())
    assert told(Gathers()) == []


def test_a_shared_part_that_is_called_in_two_ways_says_which() -> None:
    packed = packify.pack(SharedInTwoWays(), _X, alpha=2, num_estimators=2)
    assert "form=1" in packed.code
    assert packed.code.count("self.part(") == 4


def _told(frame: Frame) -> list[Any]:
    """A call as its operators and the calls it makes."""
    return [(item.path, _told(item)) if isinstance(item, Frame) else item.meta["op"] for item in frame.items]


def test_calls_hold_their_own_nodes_and_the_calls_they_make_in_order() -> None:
    _, frames, _, _ = cut(Network())
    inner = [("outer.inner.fc", ["linear"]), "relu", "mul"]
    assert _told(frames.root) == [
        ("stem", ["linear"]),
        "tanh",
        ("outer", [("outer.inner", inner), ("outer.same", []), "mean", ("outer.inner", inner), ("outer.drop", ["Dropout"]), "add"]),
        "exp",
    ]
    assert calls_of(frames, "outer.drop")[0].whole
    assert frames.dissolved == []


def test_every_computed_value_is_at_home_in_one_call_and_attributes_and_numbers_in_none() -> None:
    graph, frames, _, _ = cut(Network())
    held = {node for frame in frames.root.frames() for node in frame.items if isinstance(node, fx.Node)}
    for node in graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        assert (node in held) is (node in frames.home) is not is_repeatable(node)
    assert {node.op for node in graph.nodes if reads_attribute(node)} == {"get_attr"}
    assert [node.meta["op"] for node in graph.nodes if is_number(node)] == ["size"]


def test_calls_are_within_those_that_made_them() -> None:
    _, frames, _, _ = cut(Network())
    (outer,), (first, second) = calls_of(frames, "outer"), calls_of(frames, "outer.inner")
    (fc, _) = calls_of(frames, "outer.inner.fc")
    assert fc.within(first)
    assert fc.within(outer)
    assert fc.within(fc)
    assert not fc.within(second)
    assert not outer.within(fc)
    assert [frame.path for frame in fc.up_to(frames.root)] == ["outer.inner.fc", "outer.inner", "outer"]
    assert list(fc.up_to(fc)) == []
    order = [frame.path for frame in frames.root.frames()]
    assert order.index("outer.inner.fc") < order.index("outer.inner") < order.index("outer")
    assert order[-1] == ""


class _Closure(nn.Module):
    """Calls a module that is no part of its own."""

    def __init__(self, other: nn.Module) -> None:
        super().__init__()
        self.held, self.act = [other], nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.held[0](x)) + 1


class _Elsewhere(nn.Module):
    def __init__(self, called: nn.Module) -> None:
        super().__init__()
        self.called = called
        self.part = _Closure(called)

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x).exp()


def test_what_is_called_by_code_that_it_is_no_part_of_is_no_block_there() -> None:
    _, frames, _, _ = cut(_Elsewhere(nn.Linear(4, 4)))
    assert frames.dissolved == ["called"]
    assert _told(frames.root) == [("part", ["linear", ("part.act", ["tanh"]), "add"]), "exp"]


def test_around_a_module_kept_whole_the_caller_is_no_block() -> None:
    _, frames, _, _ = cut(_Elsewhere(nn.BatchNorm1d(4)))
    assert frames.dissolved == ["part"]
    assert _told(frames.root) == [("called", ["BatchNorm1d"]), ("part.act", ["tanh"]), "add", "exp"]


def test_a_buffer_is_written_in_the_call_that_computes_its_value() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.seen += x.detach().mean()
            return x * 2

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.count = nn.Linear(4, 4), Counting()

        def forward(self, x: Tensor) -> Tensor:
            return self.count(self.fc(x)).relu()

    _, frames, _, _ = cut(Net())
    (count,) = calls_of(frames, "count")
    assert "store" in _told(count)
    assert "store" not in _told(frames.root)
