"""Into which parts gamma cuts a layer's output, by how the code takes it apart afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from packify.capture.graphs import record_graphs
from packify.core.report import LayerWidth
from packify.core.spec import Spec
from packify.ops.table import RULES
from packify.widths.slimming import slim


class Fused(nn.Module):
    """A layer in the middle whose output is taken apart."""

    def __init__(self, take_apart: Callable[[Tensor], Tensor], out: int = 48) -> None:
        super().__init__()
        self.take_apart = take_apart
        self.stem, self.fused = nn.Linear(5, 32), nn.Linear(32, out)
        with torch.no_grad():
            width = take_apart(self.fused(self.stem(torch.randn(2, 4, 5)))).shape[-1]
        self.last = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.take_apart(self.fused(self.stem(x).relu())))


def _layer(model: nn.Module, gamma: int = 2, policy: Any = "paper", **settings: Any) -> LayerWidth:
    spec = Spec(1, 2, gamma, policy, min_channels_per_group=1, **settings)
    member = slim(record_graphs(model, torch.randn(2, 4, 5)), spec, RULES)
    return next(layer for layer in member.layers if layer.name == "fused")


def _attend(x: Tensor, heads: int) -> Tensor:
    b, n, _ = x.shape
    q, k, v = x.reshape(b, n, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def _headed(x: Tensor, heads: int) -> Tensor:
    """q, k and v of one head lie together."""
    b, n, _ = x.shape
    q, k, v = x.reshape(b, n, heads, 3, -1).transpose(1, 2).unbind(3)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def _windows(x: Tensor, heads: int) -> Tensor:
    """The heads of v are taken apart once more, after they were merged."""
    q, k, v = x.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    size = v.shape[-1]
    one, two = v.transpose(1, 2).flatten(2).split([size, (heads - 1) * size], -1)
    out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    return out + torch.cat([one.sin(), two.cos()], -1)


def _shuffled(x: Tensor) -> Tensor:
    return x.unflatten(-1, (4, -1)).transpose(-1, -2).flatten(-2)


@pytest.mark.parametrize(
    ("take_apart", "parts"),
    [
        (lambda x: x.relu(), ()),
        (lambda x: x.chunk(3, -1)[0] * x.chunk(3, -1)[2], (8, 8, 8)),
        (F.glu, (12, 12)),
        (lambda x: x.split([16, 32], -1)[0], (8, 16)),
        (lambda x: x[..., :16] + x[..., 16:32] * x[..., 32:], (8, 8, 8)),
        (lambda x: x.narrow(-1, 8, 24), (4, 12, 8)),
        (lambda x: x.tensor_split(2, -1)[1], (12, 12)),
        (lambda x: x.reshape(*x.shape[:-1], 3, 16).unbind(-2)[1], (8, 8, 8)),
        (lambda x: x.unflatten(-1, (2, 24)).sum(-2), (12, 12)),
        (lambda x: x.unflatten(-1, (24, 2)).sum(-1), ()),  # each of the two is made of all there is
        (lambda x: x[..., ::2] * x[..., 1::2], (12, 12)),
        (lambda x: sum(piece.chunk(2, -1)[0] for piece in x.chunk(2, -1)), (6, 6, 6, 6)),  # parts of parts
        (lambda x: torch.cat([x.chunk(2, -1)[0], x[..., 36:]], -1), (12, 6, 6)),  # cut here and cut there
        (lambda x: torch.cat([x, x], -1)[..., 24:72], (12, 12)),  # cut after it was joined with something
        (_shuffled, (6, 6, 6, 6)),
        (lambda x: _attend(x, 4), (8, 8, 8)),  # two of four heads: each group makes one
        (lambda x: _attend(x, 2), (8, 8, 8)),  # one head of eight, which both groups make
        (lambda x: _headed(x, 4), ()),  # a head of q, k and v in each group
    ],
)
def test_parts(take_apart: Callable[[Tensor], Tensor], parts: tuple[int, ...]) -> None:
    layer = _layer(Fused(take_apart))
    assert (layer.gamma, layer.parts, layer.note) == (2, parts, "")


def test_shuffled_channels_that_are_taken_apart() -> None:
    """Elements that lie next to each other after a shuffle are from all over the axis, and its first half is of each one's first half."""
    layer = _layer(Fused(lambda x: _shuffled(x).chunk(2, -1)[0], 96))
    assert (layer.gamma, layer.parts, layer.note) == (2, (6,) * 8, "")


def test_heads_that_are_taken_apart_are_parts() -> None:
    layer = _layer(Fused(lambda x: _windows(x, 4), 96))
    assert (layer.gamma, layer.parts) == (2, (4,) * 12)


def test_a_head_that_would_be_torn_apart_is_a_part() -> None:
    layer = _layer(Fused(lambda x: _attend(x, 3), 72), heads="keep")
    assert (layer.member_out, layer.gamma, layer.parts) == (36, 2, (4,) * 9)
    layer = _layer(Fused(lambda x: _headed(x, 3), 72), heads="keep")
    assert (layer.gamma, layer.parts) == (2, (4,) * 9)


def test_single_elements_are_parts_that_nothing_can_cut() -> None:
    layer = _layer(Fused(lambda x: x[..., 0:1] * x[..., 1:], 4))
    assert (layer.gamma, layer.note) == (1, "a part of its output does not make 2 groups of equal size")
    for take_apart in (lambda x: torch.stack(x.unbind(-1)[:2], -1), lambda x: x[..., [0, 2]], lambda x: x[..., 3].unsqueeze(-1)):
        assert _layer(Fused(take_apart, 4)).gamma == 1


def test_gamma_is_lowered_to_what_every_part_can_have() -> None:
    layer = _layer(Fused(lambda x: x.split([16, 32], -1)[0][..., :8], 48), 16)
    assert (layer.gamma, layer.parts) == (4, (4, 4, 16))
    assert layer.note == "a part of its output does not make 16 groups of equal size"


def test_the_uniform_policy_makes_parts_that_gamma_divides() -> None:
    layer = _layer(Fused(F.glu, 20), policy="uniform")  # halves of 5 in a member
    assert (layer.member_out, layer.gamma, layer.parts) == (12, 2, (6, 6))
    layer = _layer(Fused(lambda x: x.split([6, 14], -1)[1], 20), policy="uniform")
    assert layer.gamma == 2
    assert all(part % 2 == 0 for part in layer.parts)


class Convs(nn.Module):
    """Convs of two groups of their own, of which the second is transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fused = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 32, 3, groups=2)
        self.up, self.last = nn.ConvTranspose2d(8, 16, 2, groups=2), nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b, c, d = self.fused(self.stem(x).relu()).chunk(4, 1)
        a, b, c, d = self.up(a + b * c.sigmoid() - d).chunk(4, 1)
        return self.last(a * b + c * d)


def test_a_part_lies_in_the_convs_own_groups() -> None:
    member = slim(record_graphs(Convs(), torch.randn(2, 3, 5, 5)), Spec(1, 2, 2, "uniform"), RULES)
    found = {layer.name: (layer.groups, layer.gamma, layer.parts) for layer in member.layers}
    assert found["fused"] == (2, 2, (4, 4))
    assert found["up"] == (2, 2, (2, 2))
