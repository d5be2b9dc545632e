from __future__ import annotations

from typing import Any

import torch
from torch import nn

import packify
from packify.execution.in_turn import MemberGraph, one_by_one, stacked
from tests.unit.execution.networks import image, packed_convs


def test_members_are_run_in_order_and_stacked() -> None:
    packed = packed_convs().eval()
    with torch.no_grad():
        (found,) = MemberGraph(packed, "eval").run([image()])
        expected = torch.stack([packed.extract(member)(image()) for member in range(4)])
    torch.testing.assert_close(found, expected)


def test_a_runner_gets_one_call_per_member() -> None:
    seen: list[int] = []

    def runner(calls: Any) -> Any:
        seen.append(len(calls))
        return one_by_one(calls)

    MemberGraph(packed_convs(), "eval").run([image()], runner=runner)
    assert seen == [4]


def test_independent_inputs_are_cut_by_member() -> None:
    packed = packed_convs(inputs="independent").double().train()
    x = torch.cat([image().double() + member for member in range(4)])
    packed.strategy = "grouped"
    expected = packed(x)
    packed.strategy = "in turn"
    torch.testing.assert_close(packed(x), expected)


def test_what_is_no_tensor_is_the_first_members() -> None:
    assert stacked([(torch.zeros(2), 3, None), (torch.ones(2), 3, None)])[1:] == (3, None)


def test_draws_are_known() -> None:
    x = torch.randn(2, 8)
    plain = packify.pack(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 3)), x, alpha=2, num_estimators=2)
    dropping = packify.pack(nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 3)), x, alpha=2, num_estimators=2)
    for network, mode, expected in ((plain, "train", False), (dropping, "train", True), (dropping, "eval", False)):
        graph = MemberGraph(network.train(mode == "train"), mode)
        assert graph.draws()  # nobody knows before it has run
        graph.run([x])
        assert graph.draws() == expected


def test_every_member_draws_its_own_masks() -> None:
    x = torch.ones(1, 8)
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 8, bias=False))
    packed = packify.pack(model, x, alpha=2, num_estimators=2).train()
    packed.strategy = "in turn"
    with torch.no_grad():
        packed.get_parameter("1.weight").copy_(torch.eye(8).repeat(2, 1))
    first, second = packed.members(x)
    assert not torch.equal(first, second)


def test_the_input_is_not_written_to() -> None:
    class Writing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x.clone()
            y[:, 0] = 3
            return self.layer(y.mul_(2)).relu_()

    x = torch.randn(2, 4)
    packed = packify.pack(Writing(), x, alpha=2, num_estimators=3).eval()
    packed.strategy = "grouped"
    expected, before = packed.members(x), x.clone()
    packed.strategy = "in turn"
    torch.testing.assert_close(packed.members(x), expected)
    assert torch.equal(x, before)
