"""What goes in and out of a call besides its arguments and its result."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import packify
from packify.packing.ports import OwnNames, below
from tests.unit.packing.trees import Network, calls_of, cut


def test_a_call_that_reads_what_it_is_given_needs_nothing_else() -> None:
    _, frames, ports, _ = cut(Network())
    for frame in frames.root.frames():
        assert not frame.needs
        assert not frame.gives
    first, second = calls_of(frames, "outer.inner")
    assert [node.meta["op"] for node in ports.arguments(first)] == ["tanh"]
    assert [node.meta["op"] for node in ports.arguments(second)] == ["mul", "mean"]
    assert [node.meta["op"] for node in ports.results(second)] == ["mul"]


class _Reads(nn.Module):
    """Reads what another part has left, a parameter of that, and a number of its input."""

    def __init__(self, other: nn.Module) -> None:
        super().__init__()
        self.others = (other,)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.others[0].left + self.others[0].weight.sum() * x.shape[0]


class _Leaves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.left = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        self.left = (x * 3).exp()
        return x + self.weight


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.leaves = _Leaves()
        self.reads = _Reads(self.leaves)

    def forward(self, x: Tensor) -> Tensor:
        return self.reads(self.leaves(x))


def test_values_that_code_reaches_in_other_ways_go_out_of_one_call_and_into_the_other() -> None:
    _, frames, _, _ = cut(_Net())
    ((leaves,), (reads,)) = (calls_of(frames, path) for path in ("leaves", "reads"))
    assert [node.meta["op"] for node in leaves.gives] == ["exp"]
    assert {node.meta["op"] for node in reads.needs} == {"exp", "get_attr"}
    assert not frames.root.needs


def test_names_below_a_module() -> None:
    assert below("layer1.0", "layer1.0.conv.weight") == "conv.weight"
    assert below("layer1", "layer10.weight") is None
    assert below("", "a.b") == "a.b"


def test_what_a_module_holds_is_found_by_its_own_name_also_where_it_is_tied() -> None:
    tree = nn.Module()
    tree.a, tree.b = nn.Linear(2, 2), nn.Module()
    tree.b.part, tree.b.scale = nn.Linear(2, 2), nn.Parameter(torch.ones(2, dtype=torch.float64))
    tree.b.part.weight = tree.a.weight
    tree.c = tree.b.part
    own = OwnNames(tree)
    assert own.tensor("a", "a.weight") == "weight"
    assert own.tensor("b", "a.weight") == "part.weight"  # the same tensor
    assert own.tensor("b", "a.bias") is None
    assert own.tensor("", "a.bias") == "a.bias"
    assert own.module("b", "c") == "part"
    assert own.module("a", "c") is None
    assert own.reaches("b", "c")
    assert not own.reaches("a", "b")


class _Pool(nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(8, 8, 3, stride, 1, groups=8), nn.ReLU()

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        x = self.conv(x)
        return self.act(x).flatten(2), (x.shape[2], x.shape[3])


class _PooledAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.query, self.key, self.head = nn.Conv2d(3, 8, 3, padding=1), _Pool(1), _Pool(2), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        query, (_, wide) = self.query(x)
        key, (_, narrow) = self.key(x)
        scores = query.transpose(1, 2) @ key * (wide / narrow)
        return self.head((scores.softmax(-1) @ key.transpose(1, 2)).mean(1))


def test_numbers_of_sizes_that_several_calls_have_left_are_computed_where_both_are_known() -> None:
    x = torch.randn(2, 3, 8, 8)
    packed = packify.pack(_PooledAttention(), x, alpha=2, num_estimators=2, average="probs")
    packify.verify(packed)
    assert packed.eval()(torch.randn(3, 3, 12, 12)).shape == (3, 5)
    assert "/" in packed.code
