"""What the numbers of one tensor show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import packify
from packify.nn.schemes import FROZEN, ORDERED, UNDEFINED, WRITTEN, draw, identity
from packify.nn.statistics import facts_of, is_orthogonal, kind_of


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-6, -2.5])
def test_constants_stay(value: float) -> None:
    facts = facts_of("weight", nn.Parameter(torch.full((7,), value)), nn.LayerNorm(7), some_train=True)
    assert facts.fixed is not None
    assert torch.equal(draw((3,), facts.fixed, {}), torch.full((3,), value))


def _facts(tensor: Tensor, module: nn.Module | None = None, some_train: bool = True, name: str = "weight") -> Any:
    return facts_of(name, nn.Parameter(tensor), nn.Linear(2, 2) if module is None else module, some_train=some_train)


@pytest.mark.parametrize(
    ("fill", "distribution"),
    [
        (lambda w: w.uniform_(-1, 1), "uniform"),
        (lambda w: w.normal_(0, 0.3), "normal"),
        (lambda w: nn.init.trunc_normal_(w, std=1, a=-2, b=2), "truncated"),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_distributions_are_told_apart(fill: Callable[[Tensor], Tensor], distribution: str, seed: int) -> None:
    torch.manual_seed(seed)
    tensor = fill(torch.empty(80, 120))
    found = _facts(tensor)
    assert (found.distribution, found.fixed, found.drawn) == (distribution, None, True)
    assert found.std == pytest.approx(float(tensor.std()), rel=1e-3)
    assert abs(found.std / float(tensor.std()) - 1) < 4.5 * found.error + 1e-3


@pytest.mark.parametrize("shape", [(16, 16), (32, 20), (33, 31), (64, 128)])
def test_distributions_are_told_apart_whatever_the_draw(shape: tuple[int, int]) -> None:
    """In 300 draws each: the estimates of mean and standard deviation are off by up to three errors in one of them."""
    torch.manual_seed(0)
    wrong = 0
    for _ in range(300):
        tensors = {"uniform": torch.rand(shape), "normal": torch.randn(shape), "truncated": nn.init.trunc_normal_(torch.empty(shape))}
        found = {name: _facts(tensor).distribution for name, tensor in tensors.items()}
        wrong += sum(one is not None and one != name for name, one in found.items()) + (found["uniform"] is None)
    assert wrong <= (4 if shape == (16, 16) else 0)


def test_too_few_elements_show_nothing() -> None:
    found = _facts(torch.randn(5, 7))
    assert (found.distribution, found.drawn) == (None, None)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_numbers_that_are_none_are_copied(value: float) -> None:
    tensor = torch.randn(40, 40)
    tensor[3, 5:] = value
    assert _facts(tensor).fixed is UNDEFINED
    assert _facts(torch.full((4,), float("nan"))).fixed is UNDEFINED
    model = nn.Sequential(nn.Linear(6, 16), nn.Linear(16, 4))
    with torch.no_grad():
        model[0].bias[:4] = value
    packed = packify.pack(model, torch.randn(3, 6), alpha=2, num_estimators=2)
    assert packed.report.initialised["0.bias"] == "copied: it holds infinite or undefined numbers"
    torch.testing.assert_close(packed.extract(1).get_parameter("0.bias"), model[0].bias[:16], equal_nan=True)


@pytest.mark.parametrize(
    ("tensor", "is_ordered"),
    [
        (torch.linspace(0, 1, 8), True),
        (-torch.linspace(0, 1, 8), True),
        (torch.linspace(0, 1, 7), False),  # as short a draw may be
        (torch.randn(3).repeat(8, 1), True),
        (torch.randn(5, 9).sort(1).values, True),
        (torch.arange(16.0).view(2, 8).exp() * 1j, True),
        (torch.randn(8, 8), False),
    ],
)
def test_what_is_ordered_is_not_drawn(tensor: Tensor, is_ordered: bool) -> None:
    torch.manual_seed(0)
    assert (_facts(tensor).fixed is ORDERED) is is_ordered


@pytest.mark.parametrize("gain", [1.0, -0.5])
@pytest.mark.parametrize("shape", [(12, 12), (12, 8), (8, 12, 3, 3), (4, 4, 5)])
def test_the_identity_is_known_by_its_gain(shape: tuple[int, ...], gain: float) -> None:
    tensor = identity(torch.empty(shape)) * gain
    scheme = _facts(tensor).fixed
    assert (scheme.distribution, scheme.gain) == ("identity", gain)
    assert torch.equal(draw(shape, scheme, {}), tensor)
    assert draw((6, 6, *shape[2:]), scheme, {}).count_nonzero() == 6
    tensor[0, 1] += 0.1
    assert getattr(_facts(tensor).fixed, "distribution", "") != "identity"


def test_few_different_values_were_written() -> None:
    signs = torch.tensor([[-1.0, 1, 1], [1, 1, -1], [1, -1, 1], [-1, -1, 1]])
    assert _facts(signs).fixed is WRITTEN
    torch.manual_seed(0)
    for tensor in (torch.randn(3, 4), torch.randn(64, 64).bfloat16(), torch.rand(8, 8).half(), signs.flatten()):
        assert _facts(tensor).fixed is None
    many = torch.randn(16, 16)
    many[:12] = 0
    assert _facts(many).fixed is None


def test_what_is_not_trained_in_a_network_that_is_is_frozen() -> None:
    tensor = nn.Parameter(torch.randn(4, 4), requires_grad=False)
    assert facts_of("weight", tensor, nn.Linear(4, 4), some_train=True).fixed is FROZEN
    assert facts_of("weight", tensor, nn.Linear(4, 4), some_train=False).fixed is None


def test_rows_of_unequal_strength_and_heavy_tails_are_no_draw() -> None:
    torch.manual_seed(0)
    drawn = torch.randn(100, 100)
    assert _facts(drawn * torch.rand(100, 1) ** 2).drawn is False
    assert _facts(drawn**5).drawn is False
    assert _facts(drawn).drawn is True


@pytest.mark.parametrize(("shape", "gain"), [((8, 8), 1.0), ((4, 32), 2.5), ((32, 4), 0.5), ((8, 2, 3, 3), 1.0)])
def test_orthogonal_weights_are_known_by_their_gain(shape: tuple[int, ...], gain: float) -> None:
    tensor = nn.init.orthogonal_(torch.empty(shape), gain)
    assert is_orthogonal(tensor) == pytest.approx(gain, rel=1e-3)
    assert is_orthogonal(tensor + 0.1) == 0
    assert is_orthogonal(torch.zeros(shape)) == 0
    assert is_orthogonal(torch.ones(1, 5)) == 0


@pytest.mark.parametrize(
    ("name", "module", "kinds"),
    [
        ("layer1.3.conv1.weight", nn.Conv2d(4, 4, 3), ("Conv2d weight", "Conv2d weight, 3x3", "Conv2d weight, 3x3, convN")),
        (
            "a.weight",
            nn.Conv2d(4, 4, (1, 5), groups=4),
            ("Conv2d weight", "Conv2d weight, depthwise 1x5", "Conv2d weight, depthwise 1x5, a"),
        ),
        ("blocks.0.fc.bias", nn.Linear(4, 4), ("Linear bias", "Linear bias, fc")),
        ("rnn.weight_hh_l1", nn.LSTM(4, 4, 2), ("LSTM weight", "LSTM weight, rnn")),
        ("rnn.bias_ih_l0_reverse", nn.LSTM(4, 4, bidirectional=True), ("LSTM bias", "LSTM bias, rnn")),
        ("a.3.weight", nn.Linear(4, 4), ("Linear weight", "Linear weight, a.N")),
    ],
)
def test_kinds_from_the_widest_to_the_narrowest(name: str, module: nn.Module, kinds: tuple[str, ...]) -> None:
    tensor = module.get_parameter(name.rpartition(".")[2])
    assert facts_of(name, tensor, module, some_train=True).kinds == kinds
    assert kind_of(name, tensor, module) == kinds[0]


def test_a_librarys_variant_of_a_layer_is_of_its_kind() -> None:
    class Quiet(nn.Conv2d):
        pass

    layer = Quiet(4, 4, 1)
    assert kind_of("a.weight", layer.weight, layer) == "Conv2d weight"
