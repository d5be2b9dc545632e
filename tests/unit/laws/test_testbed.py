from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import packify
from packify.core.errors import LawBroken
from packify.laws.testbed import POSITIVE, make_test_bed, random_inputs, randomise, twin
from tests.unit.laws.networks import packed


class _Chance(nn.Module):
    """Every kind of chance: a layer's, a function's, attention's, and numbers drawn in code."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.drop, self.two = nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = nn.functional.dropout(self.drop(self.one(x)), 0.5, self.training)
        h = nn.functional.scaled_dot_product_attention(h, h, h, dropout_p=0.5 if self.training else 0.0)
        return self.two(h * torch.rand_like(h))


def _chancy() -> packify.PackedNetwork:
    return packify.pack(_Chance(), torch.randn(2, 3, 6), alpha=2, num_estimators=2, average="mean")


@pytest.mark.parametrize("training", [False, True])
def test_two_runs_are_alike(training: bool) -> None:
    x = torch.randn(2, 3, 6, dtype=torch.float64)
    network = make_test_bed(_chancy(), torch.float64).train(training)
    assert torch.equal(network.members(x), network.members(x))
    member = network.extract(1)
    torch.testing.assert_close(member(x), network.members(x)[1])


def test_the_network_itself_keeps_its_chance_and_numbers() -> None:
    network, x = _chancy().train(), torch.randn(2, 3, 6)
    before = network.get_parameter("one.weight").clone()
    randomise(make_test_bed(network, torch.float64))
    assert not torch.equal(network.members(x), network.members(x))
    assert torch.equal(network.get_parameter("one.weight"), before)
    assert network.get_parameter("one.weight").dtype == torch.float32


def test_a_network_without_data() -> None:
    with torch.device("meta"):
        network = packify.pack(nn.Linear(3, 2), torch.empty(2, 3), alpha=2, num_estimators=2)
    with pytest.raises(LawBroken, match="meta device"):
        make_test_bed(network, torch.float64)


def test_a_twin_has_its_own_tensors_and_the_same_graphs() -> None:
    network = packed()
    other = twin(network)
    assert other.graphs["eval"] is network.graphs["eval"]
    assert other.member_template is network.member_template
    for (name, tensor), (_, own) in zip(network.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(tensor, own), name
        assert tensor.data_ptr() != own.data_ptr()
    with torch.no_grad():
        other.get_parameter("0.weight").zero_()
    assert network.get_parameter("0.weight").abs().min() > 0


def test_random_numbers_are_neither_zero_nor_huge() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    network = make_test_bed(packify.pack(model, torch.randn(2, 3, 5, 5), alpha=2, num_estimators=2, average="mean"), torch.float64)
    torch.manual_seed(0)
    randomise(network)
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if tensor.is_floating_point():
            assert 0 < tensor.abs().max() < 8, name
            assert tensor.unique().numel() == tensor.numel(), name


@pytest.mark.parametrize("given", [None, torch.ones(5, 6)])
def test_inputs_in_another_dtype(given: Any) -> None:
    network = packed()
    example = (torch.empty(3, 6), torch.empty(3, dtype=torch.long), None, torch.empty(()))
    x = given if given is None else (given, *example[1:])
    found = random_inputs(network, x, example, 4, torch.float64, POSITIVE)
    assert [type(leaf) for leaf in found] == [Tensor, Tensor, type(None), Tensor]
    assert found[0].dtype == torch.float64
    assert tuple(found[0].shape) == ((4, 6) if given is None else (5, 6))
    assert found[1].dtype == torch.long
    assert (found[0] >= 0).all()
