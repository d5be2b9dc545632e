"""Law 12: every part of a grouped layer's output is made of every subgroup of its input."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import packify
from tests.laws.parts import torn_parts
from tests.laws.test_generated import _calm, _image_blocks, _token_blocks
from tests.models.catalogue import CASES
from tests.models.generated import Images, Tokens

SPLIT = ("shuffles", "cells", "vit", "window", "rotary", "einsums", "encoder", "attending", "activations", "queries", "low rank")
FAMILIES = {
    "vit_tiny_patch16_224": {"depth": 2, "img_size": 64},
    "xcit_nano_12_p16_224": {"depth": 2, "img_size": 64},
    "eva02_tiny_patch14_224": {"depth": 2, "img_size": 56},
    "swin_tiny_patch4_window7_224": {"depths": (1, 1, 2, 1), "img_size": 224},
    "focalnet_tiny_srf": {},
    "mambaout_femto": {},
    "edgenext_xx_small": {},
    "res2net50_26w_4s": {},
    "cait_xxs24_224": {"depth": 2, "img_size": 64},
    "efficientvit_b0": {},
    "gmlp_ti16_224": {"img_size": 224},
    "mobilevitv2_050": {},
    "torchvision:shufflenet_v2_x0_5": {},
    "coat_lite_tiny": {"img_size": 224},
}
QUICK = ("vit_tiny_patch16_224", "xcit_nano_12_p16_224", "eva02_tiny_patch14_224")
WHOLE = {
    "mobilevitv2_050": "its queries are one channel, a part that nothing can cut",
    "focalnet_tiny_srf": "its projection gives three gates, a part that two groups cannot make",
}


def _torn(model: nn.Module, x: Any, gamma: int = 2, **settings: Any) -> tuple[int, list[str]]:
    spec = {"alpha": 2, "num_estimators": 2, "gamma": gamma, "gamma_policy": "uniform", **settings}
    return torn_parts(packify.pack(model, x, **spec).extract(0), x)


@pytest.mark.parametrize("name", SPLIT)
def test_parts_of_small_networks(name: str) -> None:
    torch.manual_seed(0)
    _, torn = _torn(CASES[name].build().eval(), CASES[name].inputs())
    assert torn == []


@pytest.mark.slow
@_calm(15)
@given(blocks=_token_blocks, width=st.sampled_from([8, 12]), gamma=st.integers(2, 4), keep=st.booleans())
def test_parts_of_generated_token_networks(blocks: list[tuple[str, int]], width: int, gamma: int, keep: bool) -> None:
    torch.manual_seed(0)
    model, x = Tokens(blocks, width).eval(), torch.randn(3, 6, 5)
    assert _torn(model, x, gamma, heads="keep" if keep else "scale")[1] == []


@pytest.mark.slow
@_calm(10)
@given(blocks=_image_blocks, width=st.sampled_from([8, 12]), gamma=st.integers(2, 3))
def test_parts_of_generated_image_networks(blocks: list[tuple[str, int]], width: int, gamma: int) -> None:
    torch.manual_seed(0)
    assert _torn(Images(blocks, width).eval(), torch.randn(3, 3, 7, 7), gamma)[1] == []


def _check_family(name: str) -> None:
    torch.manual_seed(0)
    settings = dict(FAMILIES[name])
    model = packify.load_reference(name, num_classes=7, args=settings).eval()
    size = settings.get("img_size", 64)
    x = torch.randn(2, 3, size, size)
    looked, torn = _torn(model, x, alpha=1)
    assert torn == []
    assert (looked > 0) != (name in WHOLE)


@pytest.mark.slow_cases("xcit", "eva02_tiny_patch14_224")
@pytest.mark.parametrize("name", QUICK)
def test_parts_of_families(name: str) -> None:
    _check_family(name)


@pytest.mark.families
@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in QUICK])
def test_parts_of_every_family(name: str) -> None:
    _check_family(name)


def test_the_check_sees_a_torn_projection() -> None:
    """A fused projection whose parts are said to be none is what the law is about."""
    x = torch.randn(2, 5, 7)
    member = packify.pack(Fused(4), x, alpha=2, num_estimators=2, gamma=2, gamma_policy="uniform").extract(0)
    for node in member.graphs["eval"].nodes:
        if node.meta.get("gamma", 1) > 1 and len(node.args) == 5:
            node.args = (*node.args[:4], ())
    assert len(torn_parts(member, x)[1]) > 2


class Fused(nn.Module):
    """Attention with one projection for q, k and v, and a gate of one conv."""

    def __init__(self, heads: int, width: int = 24) -> None:
        super().__init__()
        self.heads = heads
        self.stem, self.last = nn.Linear(7, width), nn.Linear(width, 3)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.gate, self.uneven = nn.Conv1d(width, 2 * width, 3, padding=1), nn.Linear(width, width + 2 * width)

    def project(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)

    def gated(self, x: Tensor) -> Tensor:
        value, gate = self.gate(x.transpose(1, 2)).chunk(2, 1)
        return (value * gate.sigmoid()).transpose(1, 2)

    def pair(self, x: Tensor) -> tuple[Tensor, Tensor]:
        width = self.out.out_features
        a, b = self.uneven(x).split([width, 2 * width], -1)
        return a, b

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        q, k, v = self.project(x)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        x = x + self.gated(x)
        a, b = self.pair(x)
        return self.last(a + F.glu(b)).mean(1)


class Separate(Fused):
    """The same network with a layer for each part."""

    def __init__(self, heads: int, width: int = 24) -> None:
        super().__init__(heads, width)
        del self.qkv, self.gate, self.uneven
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.value, self.gate_alone = (nn.Conv1d(width, width, 3, padding=1) for _ in range(2))
        self.a, self.b0, self.b1 = (nn.Linear(width, width) for _ in range(3))

    def project(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))

    def gated(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        return (self.value(x) * self.gate_alone(x).sigmoid()).transpose(1, 2)

    def pair(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.a(x), torch.cat([self.b0(x), self.b1(x)], -1)


class Sliced(Fused):
    """The same network, whose projection's rows are the weights of three layers, as in torch's attention module."""

    def project(self, x: Tensor) -> tuple[Tensor, ...]:
        rows = zip(self.qkv.weight.chunk(3), self.qkv.bias.chunk(3), strict=True)
        return tuple(F.linear(x, weight, bias).unflatten(-1, (self.heads, -1)).transpose(1, 2) for weight, bias in rows)


JOINED = {"qkv": ("q", "k", "v"), "gate": ("value", "gate_alone"), "uneven": ("a", "b0", "b1")}


def _joined(separate: dict[str, Tensor], names: list[str], members: int) -> dict[str, Tensor]:
    """The separate layers' tensors, end to end in each member."""
    found = {}
    for name in names:
        layer, _, attribute = name.rpartition(".")
        parts = [separate[f"{part}.{attribute}"].unflatten(0, (members, -1)) for part in JOINED.get(layer, (layer,))]
        found[name] = torch.cat(parts, 1).flatten(0, 1)
    return found


@pytest.mark.parametrize(("gamma", "heads", "settings"), [(2, 4, {}), (2, 3, {"heads": "keep"}), (3, 4, {}), (4, 2, {"heads": "keep"})])
@pytest.mark.parametrize("inputs", ["shared", "independent"])
@pytest.mark.parametrize("one", [Fused, Sliced])
def test_a_fused_projection_is_separate_ones(one: type[Fused], gamma: int, heads: int, settings: dict[str, Any], inputs: str) -> None:
    x, members = torch.randn(2, 5, 7, dtype=torch.float64), 2
    spec = {"alpha": 2, "num_estimators": members, "gamma": gamma, "gamma_policy": "uniform", "inputs": inputs, **settings}
    fused, separate = (packify.pack(kind(heads).double(), x, **spec) for kind in (one, Separate))
    assert {fused.get_parameter(f"{name}.weight").shape[1] for name in JOINED} == {24 // gamma}
    fused.load_state_dict(_joined(separate.state_dict(), list(fused.state_dict()), members))
    for network in (fused, separate):
        network.eval()
    torch.testing.assert_close(fused.members(x), separate.members(x))
    torch.testing.assert_close(fused.extract(1)(x), separate.members(x)[1])
    y = torch.randn(4, 5, 7, dtype=torch.float64)
    for network in (fused, separate):
        network.train()
        network(y).square().sum().backward()
    torch.testing.assert_close(fused(y), separate(y))
    wanted = _joined({name: tensor.grad for name, tensor in separate.named_parameters()}, list(fused.state_dict()), members)
    for name, tensor in fused.named_parameters():
        torch.testing.assert_close(tensor.grad, wanted[name])


def test_fused_and_separate_cost_the_same() -> None:
    x = torch.randn(2, 5, 7)
    kinds = (Fused, Sliced, Separate)
    budgets = [packify.budget(kind(4), x, alpha=2, num_estimators=2, gamma=2, gamma_policy="uniform") for kind in kinds]
    assert len({budget.packed.params for budget in budgets}) == 1
    assert len({budget.packed.mult_adds for budget in budgets}) == 1


def test_fused_and_sliced_inherit_the_same() -> None:
    x = torch.randn(2, 5, 7)
    torch.manual_seed(0)
    fused, sliced = Fused(4), Sliced(4)
    sliced.load_state_dict(fused.state_dict())
    spec = {"alpha": 1, "num_estimators": 2, "gamma": 2, "gamma_policy": "uniform", "weights": "inherit"}
    states = [packify.pack(model, x, **spec).state_dict() for model in (fused, sliced)]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_torchs_attention_is_cut_in_each_of_its_projections() -> None:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.attention, self.last = nn.Linear(7, 24), nn.MultiheadAttention(24, 4, batch_first=True), nn.Linear(24, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.last(self.attention(x, x, x, need_weights=False)[0])

    packed = packify.pack(Attending(), torch.randn(2, 5, 7), alpha=2, num_estimators=2, gamma=2, gamma_policy="uniform")
    assert packed.attention.in_proj_weight.shape == (2 * 3 * 24, 12)
    layers = [node for node in packed.extract(0).graphs["eval"].nodes if node.meta["op"] == "linear"]
    assert [node.meta["gamma"] for node in layers] == [1, 2, 2, 2, 2, 1]


@pytest.mark.parametrize("path", ["gate", "qkv", "uneven"])
def test_a_layer_of_parts_runs_alone(path: str) -> None:
    """In the tree of the packed network it is a layer that does what the network does."""
    packed = packify.pack(Fused(4), torch.randn(2, 5, 7), alpha=2, num_estimators=2, gamma=2, gamma_policy="uniform").eval()
    layer, seen = packed.get_submodule(path), copy.deepcopy(packed.get_submodule(path))
    x = torch.randn(2, 48, 5) if path == "gate" else torch.randn(4, 5, 24)
    given = torch.cat(x.chunk(2), -1) if getattr(layer, "layout", 0) == 2 else x
    assert torch.equal(layer(given), seen(given))
    weight, bias = (tensor.chunk(2)[1] for tensor in (layer.weight, layer.bias))
    own = x[:, 24:] if path == "gate" else x[2:]
    sizes = {"gate": [24, 24], "qkv": [24] * 3, "uneven": [24] * 3}[path]
    run: Callable[..., Tensor] = (lambda x, w, b: F.conv1d(x, w, b, padding=1)) if path == "gate" else F.linear
    axis = 1 if path == "gate" else -1
    made = []
    for rows, shift in zip(weight.split(sizes), bias.split(sizes), strict=True):
        halves = zip(own.chunk(2, axis), rows.chunk(2), shift.chunk(2), strict=True)
        made += [run(half, w, b) for half, w, b in halves]
    result = layer(given)
    torch.testing.assert_close(result[:, 48:] if path == "gate" else result[2:], torch.cat(made, axis))
