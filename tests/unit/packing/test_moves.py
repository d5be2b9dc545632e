"""Which relayouts copy, and what those of a packed network copy for one sample."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, fx, nn

import packify
from packify.nn.members import FRONT, merge_members, relayout
from packify.packing.moves import copies, relayout_bytes

MEMBERS = 3


@pytest.mark.parametrize("shape", [(2, 4), (1, 4), (2, 1), (2, 1, 4), (1, 1, 4), (2, 3, 1)])
def test_what_copies_has_new_memory_or_another_order(shape: tuple[int, ...]) -> None:
    for source, target in itertools.product((FRONT, *range(len(shape))), repeat=2):
        given = merge_members(torch.zeros(MEMBERS, *shape), source).contiguous()
        moved = relayout(given, source, target, MEMBERS)
        new = moved.data_ptr() != given.data_ptr()
        assert copies(shape, source, target) is (new or (target != FRONT and not moved.is_contiguous())), (source, target)


def _graph(*, read: bool, source: int = 1, target: int = 0) -> fx.Graph:
    graph = fx.Graph()
    node = graph.placeholder("x") if read else graph.get_attr("weight")
    node = graph.call_function(torch.neg, (node,))
    node = graph.call_function(relayout, (node, source, target, MEMBERS))
    node.meta["val"] = torch.empty(5, 4, dtype=torch.float64, device="meta")
    graph.output(node)
    return graph


def test_what_depends_on_the_input_is_of_one_sample() -> None:
    whole = MEMBERS * 5 * 4 * 8
    assert relayout_bytes(_graph(read=True), MEMBERS, 5) == whole // 5
    assert relayout_bytes(_graph(read=True), MEMBERS, None) == whole
    assert relayout_bytes(_graph(read=False), MEMBERS, 5) == whole
    assert relayout_bytes(_graph(read=True, source=0, target=FRONT), MEMBERS, 5) == 0  # a view
    assert relayout_bytes(fx.Graph(), MEMBERS, 5) == 0


class _Tokens(nn.Module):
    """A conv whose channels become the features of tokens: one copy, of ``"(m c) l"`` to ``"l (m c)"``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv1d(3, 8, 2, 2), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).transpose(1, 2))


@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("members", [1, 2, 4])
def test_bytes_are_those_that_a_packed_pass_copies(batch: int, members: int) -> None:
    packed = packify.pack(_Tokens(), torch.randn(batch, 3, 6), alpha=members, num_estimators=members, average="mean")
    copied = 0
    values: dict[fx.Node, Tensor] = {}

    class Watch(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            nonlocal copied
            values[n] = super().run_node(n)
            if n.target is relayout and values[n].data_ptr() != values[n.args[0]].data_ptr():  # type: ignore[index]
                copied += values[n].nbytes
            return values[n]

    Watch(fx.GraphModule(packed.body, packed.graphs["eval"])).run(torch.randn(3, 3, 6))
    assert packed.report.relayout_bytes * 3 == copied
    assert (packed.report.relayout_bytes > 0) is bool(packed.report.relayouts)
