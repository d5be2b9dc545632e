"""Numbers that the code computed from a width follow it into the member, and others do not."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import packify
from packify.core.errors import SpecError


def numbers_in(model: nn.Module, x: Any, operator: str, **settings: Any) -> list[float]:
    """The floats that a member's calls of one operator have."""
    settings = {"alpha": 2, "num_estimators": 4, **settings}
    member = packify.pack(model, x, **settings).extract(0)
    nodes = [node for node in member.graphs["eval"].nodes if node.meta["op"] == operator]
    return [value for node in nodes for value in (*node.args, *node.kwargs.values()) if isinstance(value, float)]


class Attention(nn.Module):
    """One head, so that its size has to shrink."""

    def __init__(self, width: int = 64, how: str = "q", heads: int = 1) -> None:
        super().__init__()
        self.stem, self.qkv, self.out = nn.Linear(7, width), nn.Linear(width, 3 * width), nn.Linear(width, 3)
        self.how, self.heads, size = how, heads, width // heads
        self.scale = {"k4": size**-0.25, "divide": math.sqrt(size), "stream": width**-0.5, "half": 0.5}.get(how, size**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(self.stem(x)).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        if self.how == "sdpa":
            return self.out(F.scaled_dot_product_attention(q, k, v, scale=self.scale).transpose(1, 2).flatten(2)).mean(1)
        if self.how in ("q", "stream", "half"):
            scores = (q * self.scale) @ k.transpose(-2, -1)
        elif self.how == "k4":
            scores = (q * self.scale) @ (k * self.scale).transpose(-2, -1)
        elif self.how == "scores":
            scores = (q @ k.transpose(-2, -1)) * self.scale
        elif self.how == "divide":
            scores = (q @ k.transpose(-2, -1)) / self.scale
        else:
            scores = torch.einsum("bhid,bhjd->bhij", q, k) * self.scale
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2)).mean(1)


@pytest.mark.slow_cases("q-mul-0.1767766952966369")
@pytest.mark.parametrize(
    ("how", "operator", "wanted"),
    [
        ("q", "mul", 32**-0.5),
        ("scores", "mul", 32**-0.5),
        ("einsum", "mul", 32**-0.5),
        ("k4", "mul", 32**-0.25),
        ("divide", "div", 32**0.5),
        ("sdpa", "scaled_dot_product_attention", 32**-0.5),
        ("half", "mul", 0.5),
    ],
)
def test_the_scale_of_attention(how: str, operator: str, wanted: float) -> None:
    x = torch.randn(2, 5, 7)
    found = numbers_in(Attention(how=how), x, operator)
    assert found
    assert [value for value in found if value] == pytest.approx([wanted] * len([value for value in found if value]))
    kept = numbers_in(Attention(how=how), x, operator, constants="keep")
    assert [value for value in kept if value] == pytest.approx([Attention(how=how).scale] * len([value for value in kept if value]))


class Counted(nn.Module):
    """Its code computes the size of a head from the width and a head count that it knows, in every call."""

    def __init__(self, heads: int = 4) -> None:
        super().__init__()
        self.stem, self.qkv, self.out, self.heads = nn.Linear(7, 64), nn.Linear(64, 192), nn.Linear(64, 3), heads

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q * (c // self.heads) ** -0.5) @ k.transpose(-2, -1)
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2)).mean(1)


@pytest.mark.parametrize(("heads", "size"), [("scale", 16), ("keep", 8)])
def test_a_scale_that_is_computed_from_sizes_in_each_call_is_that_of_the_members_heads(heads: str, size: int) -> None:
    x = torch.randn(2, 5, 7)
    packed = packify.pack(Counted(), x, alpha=2, num_estimators=4, heads=heads)
    packify.verify(packed)
    member = packed.extract(0)
    small = Counted(2 if heads == "scale" else 4)
    small.stem, small.qkv, small.out = nn.Linear(7, 32), nn.Linear(32, 96), nn.Linear(32, 3)
    small.load_state_dict(member.state_dict())
    torch.testing.assert_close(member(x), small(x))
    graph = member.graphs["eval"]
    (scale,) = [node.args[1] for node in graph.nodes if node.meta["op"] == "mul" and node.meta["val"].__class__ is Tensor]
    found = scale.meta["val"] if isinstance(scale, torch.fx.Node) else scale
    assert found == pytest.approx(size**-0.5)


def test_what_is_packed_computes_with_the_members_numbers() -> None:
    packed = packify.pack(Attention(), torch.randn(2, 5, 7), alpha=2, num_estimators=4)
    packify.verify(packed)
    (note,) = packed.report.constants
    assert "0.125 -> 0.176777" in note.what
    assert "the size of a head ** -0.5" in note.why
    assert "numbers of the code: 1" in str(packed.report)


class Standardised(nn.Conv2d):
    def __init__(self, a: int, b: int, k: int, gamma: float) -> None:
        super().__init__(a, b, k)
        self.scale = gamma * self.weight[0].numel() ** -0.5

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.flatten(1)
        weight = (flat - flat.mean(1, keepdim=True)) / (flat.std(1, keepdim=True) + 1e-5)
        return F.conv2d(x, (weight * self.scale).view_as(self.weight), self.bias)


def standardised(gamma: float, widths: tuple[int, ...] = (16, 32, 64)) -> nn.Sequential:
    layers = [Standardised(a, b, 3, gamma) for a, b in zip((3, *widths), widths, strict=False)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 5))


@pytest.mark.parametrize("gamma", [1.0, 1.7139])
def test_standardised_weights_follow_their_fan_in(gamma: float) -> None:
    found = numbers_in(standardised(gamma), torch.randn(2, 3, 12, 12), "mul")
    assert found == pytest.approx([gamma * n**-0.5 for n in (27, 8 * 9, 16 * 9)])


def test_one_layer_proves_nothing_when_the_gain_is_free() -> None:
    model = nn.Sequential(nn.Conv2d(3, 16, 3), *standardised(1.7139, (32,))[1:])
    model.insert(1, Standardised(16, 32, 3, 1.7139))
    x = torch.randn(2, 3, 12, 12)
    assert numbers_in(model, x, "mul") == pytest.approx([1.7139 * 144**-0.5])
    packed = packify.pack(model, x, alpha=2, num_estimators=4)
    assert any("is kept" in note.what and "no power" in note.why for note in packed.report.constants)


def test_subgroups_count_in_the_fan_in() -> None:
    model = standardised(1.0, (16, 32, 64, 64))
    x = torch.randn(2, 3, 14, 14)
    packed = packify.pack(model, x, alpha=2, num_estimators=4, gamma=2, gamma_policy="uniform")
    member = packed.extract(0)
    weights = {name: tensor for name, tensor in member.named_parameters() if tensor.dim() == 4}
    numbers = [value for node in member.graphs["eval"].nodes if node.meta["op"] == "mul" for value in node.args if isinstance(value, float)]
    assert numbers == pytest.approx([weight[0].numel() ** -0.5 for weight in weights.values()])
    assert any(layer.gamma == 2 for layer in packed.report.layers)


class Residual(nn.Module):
    """Numbers that no width gave: a residual scale, a slope, a mean of two."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1) for _ in range(3))
        self.first, self.out = nn.Conv2d(3, 16, 1), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for index, conv in enumerate(self.convs):
            x = (x * 0.25 + conv(F.gelu(x) * 0.5) * 0.2) / (1 + index * 0.1)
        return self.out(x.mean((2, 3)) * 0.0625)


def test_numbers_that_no_width_gave_stay() -> None:
    x = torch.randn(2, 3, 8, 8)
    for operator in ("mul", "div"):
        assert numbers_in(Residual(), x, operator) == numbers_in(Residual(), x, operator, alpha=1, num_estimators=1)


class Embedded(nn.Module):
    def __init__(self, width: int = 60) -> None:
        super().__init__()
        self.embed, self.layer, self.out = nn.Embedding(9, width), nn.Linear(width, width), nn.Linear(width, 3)
        self.scale = math.sqrt(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.layer(self.embed(x) * self.scale)).mean(1))


def test_embeddings_scaled_by_the_root_of_the_width() -> None:
    assert numbers_in(Embedded(), torch.randint(9, (2, 5)), "mul") == pytest.approx([math.sqrt(30)])


def test_numbers_by_name() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = Attention(64), Attention(48)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x) + self.b(x)

    x = torch.randn(2, 5, 7)
    assert numbers_in(Two(), x, "mul", constants={"a": "keep"}) == pytest.approx([64**-0.5, 24**-0.5])
    assert numbers_in(Two(), x, "mul", constants={"b": 0.3}) == pytest.approx([32**-0.5, 0.3])
    for wrong in ("yes", {"a": "no"}, {"a": True}, {"a": math.nan}, 3, {3: "keep"}):
        with pytest.raises(SpecError, match="constants"):
            packify.pack(Two(), x, alpha=2, num_estimators=4, constants=wrong)  # type: ignore[arg-type]


def test_a_spec_keeps_them() -> None:
    spec = packify.Spec(2, 4, constants={"b": 1, "a": "keep"})
    assert packify.Spec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert hash(spec) != hash(packify.Spec(2, 4))


def test_an_artefact_keeps_them(tmp_path: Any) -> None:
    x = torch.randn(2, 5, 7)
    for constants in ("follow", "keep"):
        packed = packify.pack(Attention(), x, alpha=2, num_estimators=4, constants=constants).eval()
        packify.save(packed, tmp_path / constants)
        again = packify.load(tmp_path / constants, model=Attention())
        assert torch.equal(again(x), packed(x))
    config = json.loads((tmp_path / "keep" / "config.json").read_text())
    del config["spec"]["constants"]  # as it was written before there was such a choice
    (tmp_path / "keep" / "config.json").write_text(json.dumps(config))
    assert torch.equal(packify.load(tmp_path / "keep", model=Attention())(x), packed(x))


class Rotary(nn.Module):
    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.stem, self.q, self.k, self.out = nn.Linear(7, width), nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, 3)
        self.register_buffer("inverse", 10000.0 ** -(torch.arange(0, width, 2) / width), persistent=False)

    def turned(self, x: Tensor) -> Tensor:
        angles = torch.arange(x.shape[1])[:, None] * self.inverse
        a, b = x.chunk(2, -1)
        return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], -1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.out((self.turned(self.q(x)) @ self.turned(self.k(x)).transpose(1, 2)).softmax(-1) @ x).mean(1)


def test_rotary_frequencies_are_computed_anew() -> None:
    x = torch.randn(2, 5, 7)
    packed = packify.pack(Rotary(), x, alpha=2, num_estimators=4)
    wanted = Rotary(32).inverse
    for share in packed.get_buffer("inverse").chunk(4):
        assert torch.allclose(share, wanted, rtol=1e-4)
    assert any("geometric" in note.why for note in packed.report.constants)
    kept = packify.pack(Rotary(), x, alpha=2, num_estimators=4, constants="keep")
    assert torch.equal(kept.get_buffer("inverse").chunk(4)[0], Rotary().inverse[:16])


def test_a_choice_without_effect_is_said() -> None:
    packed = packify.pack(Attention(), torch.randn(2, 5, 7), alpha=2, num_estimators=4, constants={"nowhere": "keep", "else": 0.5})
    assert [note.node for note in packed.report.constants if "has no effect" in note.what] == ["else", "nowhere"]


@pytest.mark.parametrize("build", [lambda: standardised(1.0), Attention, Residual, Rotary])
def test_alpha_of_m_is_the_reference(build: Callable[[], nn.Module]) -> None:
    model = build()
    shape = (2, 5, 7) if isinstance(model, (Attention, Rotary)) else (2, 3, 12, 12)
    packed = packify.pack(model, torch.randn(shape), alpha=1, num_estimators=1)
    assert not [note for note in packed.report.constants if "->" in note.what]
