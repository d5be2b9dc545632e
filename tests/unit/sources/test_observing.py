"""How a network's tensors are filled is seen while it is built, and can be repeated at other shapes."""

from __future__ import annotations

import copy
import functools
import gc
import math
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import packify
from packify.nn.layer_sizes import sizes_by_role
from packify.nn.recipes import at_sizes, recipe_of, repeat
from packify.sources import load_reference
from packify.sources.observing import observe_build


class One(nn.Module):
    """A weight of its own, and what fills it."""

    def __init__(self, fill: Callable[[Tensor], object], shape: tuple[int, ...] = (96, 256)) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))
        fill(self.weight)


def repeated(module: nn.Module, name: str, shape: tuple[int, ...], others: nn.Module | None = None) -> Tensor:
    """The tensor, filled as it was but at another shape, those beside it at theirs or at those of another layer."""
    recipe = recipe_of(module, name)
    assert recipe is not None
    beside = (module if others is None else others)._parameters
    shapes = {key: shape if key == name else tensor.shape for key, tensor in beside.items() if tensor is not None}
    new = at_sizes(module, shapes)
    torch.manual_seed(0)
    repeat(new, {name: recipe}, {name: sizes_by_role(module, name)}, {name: sizes_by_role(module, name, shapes)})
    return new.get_parameter(name).detach()


def by_hand(weight: Tensor) -> None:
    """As much code is written: the standard deviation is a number when torch is called."""
    weight.data.normal_(0, math.sqrt(2 / weight.shape[0]))


@pytest.mark.parametrize(
    "fill",
    [
        functools.partial(nn.init.kaiming_uniform_, a=math.sqrt(5)),
        functools.partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu"),
        nn.init.xavier_uniform_,
        nn.init.xavier_normal_,
        nn.init.orthogonal_,
        functools.partial(nn.init.trunc_normal_, std=0.02),
        functools.partial(nn.init.trunc_normal_, std=0.02, a=-0.04, b=0.04),
        functools.partial(nn.init.normal_, mean=1.0, std=0.3),
        nn.init.eye_,
        nn.init.zeros_,
        by_hand,
        lambda weight: weight.data.copy_(torch.randn(weight.shape) * 0.5),
        lambda weight: weight.data.uniform_(-1, 1).mul_(0.1).add_(2),
    ],
)
def test_what_fills_a_tensor_is_repeated_at_another_shape(fill: Callable[[Tensor], object]) -> None:
    torch.manual_seed(0)
    model = observe_build(lambda: One(fill))
    drawn, wanted = repeated(model, "weight", (48, 64)), One(fill, (48, 64)).weight.detach()
    assert drawn.shape == (48, 64)
    assert torch.equal(drawn, wanted) or math.isclose(float(drawn.std()), float(wanted.std()), rel_tol=0.05)
    assert math.isclose(float(drawn.mean()), float(wanted.mean()), abs_tol=0.05)
    assert float(drawn.abs().max()) <= 1.4 * float(wanted.abs().max())


@pytest.mark.parametrize(
    "layer",
    [
        lambda n: nn.Linear(n, 2 * n),
        lambda n: nn.Conv2d(n, 2 * n, 3, groups=2),
        lambda n: nn.Conv2d(n, n, 3, groups=n),
        lambda n: nn.LSTM(n, n),
        lambda n: nn.Embedding(9, n, padding_idx=0),
        nn.LayerNorm,
    ],
)
def test_torchs_own_layers_reset_themselves(layer: Callable[[int], nn.Module]) -> None:
    torch.manual_seed(0)
    model, wanted = observe_build(lambda: layer(64)), layer(32)
    for name, tensor in wanted.named_parameters():
        drawn = repeated(model, name, tuple(tensor.shape), wanted)
        bound = float(drawn.abs().max()) / max(float(tensor.detach().abs().max()), 1e-9)
        assert 0.72 < bound < 1.35 or torch.equal(drawn, tensor), name


def test_the_last_call_that_overwrites_counts_and_what_follows_it() -> None:
    def build() -> nn.Module:
        layer = nn.Linear(64, 64)
        nn.init.xavier_normal_(layer.weight)
        nn.init.normal_(layer.weight, std=0.5)
        layer.weight.data.div_(2)
        with torch.no_grad():
            layer.bias[0] = 7  # only a part of it: no call that can be repeated
        return layer

    model = observe_build(build)
    assert (recipe := recipe_of(model, "weight")) is not None
    assert recipe.label == "normal_(std=0.5), then div_(2)"
    assert math.isclose(float(repeated(model, "weight", (64, 32)).std()), 0.25, rel_tol=0.05)
    assert recipe_of(model, "bias") is None


def test_parts_of_a_tensor_are_filled_in_proportion() -> None:
    def build() -> nn.Module:
        layer = nn.LSTM(8, 16)
        layer.bias_ih_l0.data[16:32].fill_(1.0)  # the forget gate
        for gate in layer.weight_hh_l0.data.chunk(4):
            nn.init.orthogonal_(gate)
        return layer

    model, wanted = observe_build(build), nn.LSTM(8, 6)
    bias = repeated(model, "bias_ih_l0", (24,), wanted)
    assert (bias == 1).tolist() == [6 <= index < 12 for index in range(24)]
    for gate in repeated(model, "weight_hh_l0", (24, 6), wanted).chunk(4):
        assert torch.allclose(gate @ gate.T, torch.eye(6), atol=1e-5)


def test_a_function_of_a_layer_is_repeated_as_a_whole() -> None:
    def draw(layer: nn.Module, gain: float = 2.0) -> None:
        if isinstance(layer, nn.Conv2d):
            fan_out = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels // layer.groups
            nn.init.normal_(layer.weight, 0.0, math.sqrt(gain / fan_out))

    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 3, groups=64)).apply(draw)

    model = observe_build(build)
    new = at_sizes(model[1], {"weight": (16, 1, 3, 3), "bias": (16,)}, groups=16)
    recipe = recipe_of(model[1], "weight")
    assert recipe is not None
    repeat(new, {"weight": recipe}, {}, {})
    assert math.isclose(float(new.weight.detach().std()), math.sqrt(2 / 9), rel_tol=0.2)


def test_a_number_that_a_width_was_given_for_is_not_repeated() -> None:
    def draw(layer: nn.Module, width: int) -> None:
        nn.init.normal_(layer.weight, 0.0, width**-0.5)

    def build() -> nn.Module:
        layers = nn.Sequential(nn.Linear(64, 64), nn.Linear(128, 128), nn.Linear(256, 256))
        for layer in layers:
            draw(layer, layer.in_features)
        return layers

    model = observe_build(build)
    assert math.isclose(float(repeated(model[0], "weight", (32, 16)).std()), 0.25, rel_tol=0.1)


def test_an_attribute_that_torch_does_not_know_is_not_believed() -> None:
    class Own(nn.Linear):
        def __init__(self, width: int) -> None:
            self.size = width
            super().__init__(width, width)

        def reset_parameters(self) -> None:
            nn.init.normal_(self.weight, std=self.size**-0.5)
            nn.init.zeros_(self.bias)

    model = observe_build(lambda: nn.Sequential(Own(64), Own(128)))
    assert math.isclose(float(repeated(model[1], "weight", (16, 16)).std()), 0.25, rel_tol=0.15)


def test_factories_are_seen_and_copies_remember() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(1e-6 * torch.ones(64))
            self.position = nn.Parameter(torch.randn(1, 7, 64) * 0.02)
            self.mirrored = nn.Parameter(1 - torch.rand(64))
            self.table = nn.Parameter(torch.arange(64.0))
            self.first = nn.Linear(8, 64)
            self.second = copy.deepcopy(self.first)

    model = observe_build(Net)
    assert torch.equal(repeated(model, "scale", (3,)), torch.full((3,), 1e-6))
    assert math.isclose(float(repeated(model, "position", (1, 7, 999)).std()), 0.02, rel_tol=0.1)
    assert recipe_of(model, "table") is None
    assert recipe_of(model, "mirrored") is None
    assert (recipe := recipe_of(model.second, "weight")) is not None
    assert recipe.label == "Linear.reset_parameters"


def test_a_build_is_as_it_would_be_and_nothing_is_kept_of_it() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.LSTM(8, 8))

    torch.manual_seed(3)
    plain = build()
    state = torch.get_rng_state()
    torch.manual_seed(3)
    seen = observe_build(build)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), seen.parameters(), strict=True))
    gc.collect()  # frames in circles are nobody's
    kept = [value for value in gc.get_referrers(seen[0]) if type(value).__name__ == "frame" and value is not sys._getframe()]
    assert not kept
    with pytest.raises(ZeroDivisionError):
        observe_build(lambda: nn.Linear(1 // 0, 1))


def test_tensors_that_were_replaced_have_no_recipe() -> None:
    model = load_reference("resnet18", num_classes=10)
    assert recipe_of(model.conv1, "weight") is not None
    model.conv1.weight = nn.Parameter(torch.zeros_like(model.conv1.weight))
    model.fc = nn.Linear(512, 3)
    assert recipe_of(model.conv1, "weight") is None
    assert recipe_of(model.fc, "weight") is None


def test_builds_on_the_meta_device() -> None:
    def build() -> nn.Module:
        with torch.device("meta"):
            layer = nn.Linear(64, 64)
            nn.init.trunc_normal_(layer.weight, std=0.02)
        return layer

    assert (recipe := recipe_of(observe_build(build), "weight")) is not None
    assert recipe.label == "trunc_normal_(std=0.02)"


@pytest.mark.slow_cases("swin_tiny_patch4_window7_224", "torchvision:regnet_y_400mf")
@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "efficientnet_b0", "torchvision:regnet_y_400mf", "nf_regnet_b0"])
def test_every_tensor_of_libraries_networks_has_a_recipe(name: str) -> None:
    model = load_reference(name)
    held = [(path, module, key) for path, module in model.named_modules() for key, value in module._parameters.items() if value is not None]
    assert not [f"{path}.{key}" for path, module, key in held if recipe_of(module, key) is None]


def test_a_factory_that_loads_weights_is_judged_by_them() -> None:
    torch.manual_seed(0)
    state = {"weight": torch.randn(64, 64) * torch.rand(64, 1) ** 3, "bias": torch.randn(64)}

    def build() -> nn.Module:
        layer = nn.Linear(64, 64)
        layer.load_state_dict(state)
        return nn.Sequential(layer, nn.ReLU(), nn.Linear(64, 3))

    model = observe_build(build)
    packed = packify.pack(model, torch.randn(2, 64), alpha=1, num_estimators=2)
    assert "look trained" in str(packed.report)
    assert packed.report.initialised["0.weight"] == "Linear.reset_parameters"
    assert float(packed.get_parameter("0.weight").detach().abs().max()) <= 1 / 8


def test_a_freed_tensors_memory_says_nothing_about_the_next() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            numbers = [np.arange(64.0, dtype=np.float32) for _ in range(30)]
            self.tables = nn.ParameterList()
            for array in numbers:
                torch.randn(64)  # freed at once; torch does not tell who makes a tensor of an array
                self.tables.append(nn.Parameter(torch.from_numpy(array)))

    model = observe_build(Net)
    assert not [name for name in model.tables._parameters if recipe_of(model.tables, name) is not None]
