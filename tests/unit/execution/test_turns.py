from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import packify
from packify.execution.memory import peak_bytes
from tests.unit.execution.networks import image, packed_convs


def _twins(**spec: Any) -> tuple[packify.PackedNetwork, packify.PackedNetwork]:
    packed = packed_convs(**spec).double().train()
    packed.strategy = "in turn"
    return packed, copy.deepcopy(packed)


def _assert_equal(a: nn.Module, b: nn.Module) -> None:
    for (name, mine), (_, theirs) in zip(a.named_parameters(), b.named_parameters(), strict=True):
        assert mine.grad is not None, name
        assert torch.equal(mine.grad, theirs.grad), name
    for (name, mine), (_, theirs) in zip(a.named_buffers(), b.named_buffers(), strict=True):
        assert torch.equal(mine, theirs), name


def test_the_gradients_are_those_of_the_packed_step_bit_for_bit() -> None:
    packed, other = _twins()
    x, y = image().double(), torch.tensor([0, 1, 2, 3])
    for _ in range(2):  # a second batch before the step: gradients are accumulated
        sum(F.cross_entropy(out, y) for out in packed.members(x)).backward()
        for member in other.turns():
            F.cross_entropy(member(x), y).backward()
        x = x.flip(0)
    _assert_equal(packed, other)


def test_every_member_may_have_a_batch_of_its_own() -> None:
    packed, other = _twins(inputs="independent")
    x, y = torch.cat([image().double() * (1 + m) for m in range(4)]), torch.tensor([0, 1, 2, 3])
    sum(F.cross_entropy(out, y) for out in packed(x).chunk(4)).backward()
    for member, own in zip(other.turns(), x.chunk(4), strict=True):
        F.cross_entropy(member(own), y).backward()
    _assert_equal(packed, other)


def test_a_parameter_without_a_gradient_gets_none() -> None:
    packed = packed_convs().train()
    packed.get_parameter("0.weight").requires_grad_(False)
    for member in packed.turns():
        member(image()).sum().backward()
    assert packed.get_parameter("0.weight").grad is None
    assert all(parameter.grad is not None for name, parameter in packed.named_parameters() if name != "0.weight")


def test_autocast_and_an_optimiser_of_the_packed_parameters() -> None:
    packed = packed_convs().train()
    optimiser = torch.optim.AdamW(packed.parameters(), lr=1e-2)
    y = torch.tensor([0, 1, 2, 3])
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        total = 0.0
        for member in packed.turns():
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(member(image()).float(), y)
            loss.backward()
            total += loss.item()
        optimiser.step()
        losses.append(total)
    assert losses[-1] < 0.5 * losses[0]


def test_evaluation_mode_gives_one_members_output() -> None:
    packed = packed_convs().eval()
    with torch.no_grad():
        outputs = torch.stack([member(image()) for member in packed.turns()])
        torch.testing.assert_close(outputs, packed.members(image()))


def test_hooks_inside_are_refused() -> None:
    packed = packed_convs()
    packed.get_submodule("1").register_forward_hook(lambda *_: None)
    with pytest.raises(packify.PackError, match="hooks"):
        packed.turns()


def test_the_peak_is_that_of_one_member_with_the_packed_gradients() -> None:
    x = image(64, 16)
    packed = packed_convs(x).train()
    single = packed.extract(0)

    def in_turn() -> None:
        for member in packed.turns():
            member(x).square().sum().backward()

    def grouped() -> None:
        packed.strategy = "grouped"
        packed.members(x).square().sum().backward()

    steps = (lambda: single(x).square().sum().backward(), in_turn, grouped)
    alone, turns, whole = (peak_bytes(step, torch.device("cpu")) for step in steps)
    gradients = sum(parameter.numel() * 4 for parameter in packed.parameters())
    assert turns <= 1.1 * alone + gradients
    assert whole > 2.5 * alone
