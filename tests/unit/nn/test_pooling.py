"""One scheme for all tensors of a kind, as simple as it can be."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from packify.nn.pooling import pooled_schemes
from packify.nn.schemes import Scheme, draw
from packify.nn.statistics import facts_of


def schemes_of(model: nn.Module) -> dict[str, Scheme]:
    """What the numbers of a network show."""
    modules = dict(model.named_modules())
    facts = [facts_of(name, tensor, modules[name.rpartition(".")[0]], some_train=True) for name, tensor in model.named_parameters()]
    return pooled_schemes(facts)


@pytest.mark.parametrize(
    ("fill", "role", "distribution"),
    [
        (lambda w: nn.init.kaiming_uniform_(w, a=math.sqrt(5)), "fan_in", "uniform"),
        (lambda w: nn.init.kaiming_normal_(w, mode="fan_in", nonlinearity="relu"), "fan_in", "normal"),
        (lambda w: nn.init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu"), "fan_out", "normal"),
        (nn.init.xavier_uniform_, "fan_avg", "uniform"),
        (nn.init.xavier_normal_, "fan_avg", "normal"),
        (lambda w: nn.init.normal_(w, std=0.3), "", "normal"),
        (lambda w: nn.init.trunc_normal_(w, std=0.02), "", "normal"),
        (lambda w: nn.init.trunc_normal_(w, std=0.02, a=-0.04, b=0.04), "", "truncated"),
        (lambda w: nn.init.normal_(w, std=math.sqrt(0.7 / w.shape[0])), "fan_out", "normal"),
    ],
)
def test_schemes_are_recognised_over_several_layers(fill: Callable[[Tensor], Tensor], role: str, distribution: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(a, b) for a, b in ((64, 96), (96, 256), (256, 160), (160, 90))))
    for layer in model:
        fill(layer.weight.data)
    wanted = fill(torch.empty(48, 64))
    schemes = schemes_of(model)
    for index in range(4):
        scheme = schemes[f"{index}.weight"]
        assert (scheme.role, scheme.distribution) == (role, distribution)
        assert scheme == schemes["0.weight"]
        assert schemes[f"{index}.bias"].name == "uniform, variance 1/3 / its layer's fan_in"
    drawn = draw((48, 64), schemes["0.weight"], {"fan_in": 64, "fan_out": 48, "fan_avg": 56, "fan_out of a group": 48})
    assert math.isclose(float(drawn.std()), float(wanted.std()), rel_tol=0.06)
    assert float(drawn.abs().max()) <= 1.3 * float(wanted.abs().max())


def _convs_and_head() -> nn.Sequential:
    """The first layer and the head are each one of a kind, or nearly."""
    widths = [(3, 16), *[(16, 16)] * 3, (16, 32), *[(32, 32)] * 3]
    convs = (nn.Conv2d(a, b, 3, bias=False) for a, b in widths)
    return nn.Sequential(*convs, *(nn.Conv1d(16, 16, 3, bias=False) for _ in range(3)), nn.Linear(32, 10))


_DRAWS: dict[str, Callable[[Tensor], Tensor]] = {
    "uniform, variance 1/3 / fan_in": lambda w: nn.init.kaiming_uniform_(w, a=math.sqrt(5)),
    "uniform, variance 2 / fan_in": lambda w: nn.init.kaiming_uniform_(w, nonlinearity="relu"),
    "normal, variance 2 / fan_out": lambda w: nn.init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu"),
    "uniform, variance 1 / fan_avg": nn.init.xavier_uniform_,
    "normal, variance 1 / fan_avg": nn.init.xavier_normal_,
    "normal, std 0.02": lambda w: nn.init.trunc_normal_(w, std=0.02),
}


@pytest.mark.parametrize("scheme", _DRAWS)
def test_one_scheme_explains_the_network_whatever_the_draw(scheme: str) -> None:
    """A kind of one layer, or of layers of one size, could have been drawn in many ways: as the network's other kinds are."""
    for seed in range(20):
        torch.manual_seed(seed)
        model = _convs_and_head()
        for layer in model:
            _DRAWS[scheme](layer.weight.data)
        found = schemes_of(model)
        assert {name: one.name for name, one in found.items() if name.endswith("weight") and one.name != scheme} == {}, seed


@pytest.mark.parametrize("seed", range(8))
def test_what_is_seen_once_among_many_is_not_believed(seed: int) -> None:
    """Equal layers of std 0.02 whose size also gives variance 1/3 / fan_avg, as in a Swin Transformer."""
    torch.manual_seed(seed)
    width = 417  # 1 / 3 / (2 * width) is 0.02 ** 2, nearly
    model = nn.Sequential(
        *(layer for _ in range(12) for layer in (nn.Linear(width, 3 * width), nn.Linear(3 * width, width))), nn.Linear(64, 64)
    )
    for layer in model:
        nn.init.trunc_normal_(layer.weight, std=0.02)
    schemes = schemes_of(model)
    assert {schemes[f"{index}.weight"].name for index in range(25)} == {"normal, std 0.02"}


def test_a_single_number_is_drawn_as_its_kind_is() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 96), nn.Linear(96, 1), nn.Linear(1, 80), nn.Linear(80, 1), nn.Linear(1, 1))
    nn.init.constant_(model[3].bias, -4.6)  # more than any draw of its kind: the prior of a detector's classes
    nn.init.zeros_(model[4].bias)
    schemes = schemes_of(model)
    assert schemes["1.bias"].name == "uniform, variance 1/3 / its layer's fan_in"
    assert schemes["3.bias"].name == "constant -4.6"
    assert schemes["4.bias"].name == "constant 0"


def test_odd_ones_keep_their_own_number() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(128, 128) for _ in range(8)), nn.Linear(128, 10))
    for index, layer in enumerate(model):
        nn.init.normal_(layer.weight, std=0.05 if index < 7 else 0.3)
    schemes = schemes_of(model)
    assert {schemes[f"{index}.weight"].name for index in range(7)} == {"normal, std 0.05"}
    assert math.isclose(schemes["7.weight"].std, 0.3, rel_tol=0.02)
    assert not schemes["8.weight"].role


def test_depthwise_convs_and_fan_out_per_group() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(c, d, k, groups=g) for c, d, k, g in ((3, 32, 3, 1), (32, 32, 3, 32), (32, 96, 1, 1), (96, 96, 5, 96)))
    )
    for layer in model:
        nn.init.normal_(layer.weight, std=math.sqrt(2 / (layer.kernel_size[0] ** 2 * layer.out_channels / layer.groups)))
    assert {schemes_of(model)[f"{index}.weight"].name for index in range(4)} == {"normal, variance 2 / fan_out of a group"}


def test_a_stray_element_says_nothing() -> None:
    """timm's truncated normal clamps the infinity that its inverse error function gives once in ten million draws."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(384, 384) for _ in range(4)))
    for layer in model:
        nn.init.normal_(layer.weight, std=0.02)
    with torch.no_grad():
        model[2].weight[3, 5] = -2.0
    assert schemes_of(model)["2.weight"].name == "normal, std 0.02"
