"""Heads: which of the factors of a width scales."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import packify
from packify.capture.graphs import record_graphs
from packify.core.spec import Spec
from packify.ops.table import RULES
from packify.widths.assignment import Pins, assign
from packify.widths.dims import Dim, Product, Sum, fixed, free, product, total, wholes_first
from packify.widths.heads import choose_heads, splits_of
from packify.widths.slimming import Member, slim


def _width(*factors: Dim) -> Dim:
    width = Product(factors)
    width.demands.append("a layer")
    return width


def _heads(size: int) -> Dim:
    heads = free(size)
    heads.batched.append("attention")
    return heads


def _sizes(ratio: str, *dims: Dim, round_to: int = 1, policy: str = "scale") -> tuple[list[int], list[str]]:
    roots, pins = list(wholes_first(dims)), Pins()
    heads = choose_heads(splits_of(roots), roots, Fraction(ratio), round_to, pins, {}, policy)
    sizes = assign(roots, Fraction(ratio), round_to, pins, {}, heads.scaled)
    return [sizes.of(dim) for dim in dims], [attention.kept for attention in heads.attentions]


@pytest.mark.parametrize(
    ("heads", "size", "ratio", "expected"),
    [(12, 64, "1/2", [6, 64]), (3, 64, "1/2", [3, 32]), (3, 64, "1/3", [1, 64]), (12, 64, "3/2", [18, 64]), (4, 10, "3/4", [3, 10])],
)
def test_heads_scale_where_that_is_whole(heads: int, size: int, ratio: str, expected: list[int]) -> None:
    h, d = _heads(heads), free(size)
    (_, *found), _ = _sizes(ratio, _width(fixed(3), h, d), h, d)
    assert found == expected


def test_heads_are_kept_when_asked() -> None:
    h, d = _heads(12), free(64)
    (_, *found), why = _sizes("1/2", _width(h, d), h, d, policy="keep")
    assert found == [12, 32]
    assert why == ['heads="keep"']


def test_a_factor_that_is_no_batch_axis_is_structure() -> None:
    h, d = free(12), free(64)
    (_, *found), why = _sizes("1/2", _width(h, d), h, d)
    assert found == [12, 32]
    assert why == []


def test_all_that_share_the_size_of_a_head_decide_together() -> None:
    first, second, d = _heads(4), _heads(3), free(8)
    (_, _, *found), why = _sizes("1/2", _width(first, d), _width(second, d), first, second, d)
    assert found == [4, 3, 4]
    assert why == ["3 x 1/2 is not whole"]


def test_grouped_queries_scale_key_heads_first() -> None:
    keys, repeat, d = _heads(4), free(2), free(8)
    repeat.batched.append("attention")
    (*widths, one, two, three), _ = _sizes("1/2", _width(keys, repeat, d), _width(keys, d), keys, repeat, d)
    assert widths == [32, 16]
    assert [one, two, three] == [2, 2, 8]


def test_merged_batches_mark_the_heads_in_them() -> None:
    h, d = free(4), free(8)
    batch = product([fixed(5), h])
    batch.batched.append("attention")
    (_, _, *found), _ = _sizes("1/2", batch, _width(h, d), h, d)
    assert found == [2, 8]


def test_a_head_size_that_is_a_width_by_itself_scales() -> None:
    """One key head that all queries share: its projection is as wide as one head."""
    h, d = _heads(8), free(16)
    alone = d
    alone.demands.append("keys")
    (_, *found), why = _sizes("1/2", _width(h, d), h, d)
    assert found == [8, 8]
    assert why == ["the size of a head is a width of keys by itself"]


def test_sizes_of_heads_that_are_sums() -> None:
    h, keys, values = _heads(4), free(8), free(32)
    (_, *found), _ = _sizes("1/2", _width(h, Sum([keys, keys, values])), h, keys, values)
    assert found == [2, 8, 32]


def test_joined_projections_of_heads() -> None:
    h, d = _heads(4), free(8)
    joined = total([product([h, d]), product([h, d])])
    joined.demands.append("kv")
    (_, _, *found), _ = _sizes("1/2", joined, _width(h, d), h, d)
    assert found == [2, 8]


def test_round_to_is_about_widths() -> None:
    h, d = _heads(12), free(64)
    (width, *found), _ = _sizes("1/2", _width(h, d), h, d, round_to=8)
    assert (width, *found) == (384, 6, 64)
    h, d = _heads(6), free(10)
    (width, *found), why = _sizes("1/2", _width(h, d), h, d, round_to=8)
    assert width % 8 == 0
    assert why == ["60 x 1/2 is no multiple of 8"]


class _Attention(nn.Module):
    """Attention in one of the ways that people write it, with a bias table, a temperature and talking heads."""

    def __init__(self, way: str, width: int = 24, heads: int = 4) -> None:
        super().__init__()
        self.way, self.heads = way, heads
        self.stem, self.qkv, self.proj, self.head = (
            nn.Linear(6, width),
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
            nn.Linear(width, 3),
        )
        self.table = nn.Parameter(torch.randn(heads, 5, 5)) if way != "bmm" else None
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1)) if way == "matmul" else None
        self.talk = nn.Linear(heads, heads) if way == "matmul" else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        if self.way == "sdpa":
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=self.table)
        elif self.way == "matmul":
            scores = (q @ k.transpose(-2, -1)) * self.temperature + self.table
            out = self.talk(scores.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).softmax(-1) @ v
        elif self.way == "einsum":
            out = torch.einsum("bhnm,bhmd->bhnd", (torch.einsum("bhnd,bhmd->bhnm", q, k) + self.table).softmax(-1), v)
        else:
            flat = [part.reshape(b * self.heads, n, -1) for part in (q, k, v)]
            out = torch.bmm(torch.bmm(flat[0], flat[1].mT).softmax(-1), flat[2]).view(b, self.heads, n, -1)
        return self.head(self.proj(out.transpose(1, 2).reshape(b, n, c)).mean(1))


def _member(model: nn.Module, **more: object) -> Member:
    return slim(record_graphs(model, torch.randn(2, 5, 6)), Spec(1, 2, **more), RULES)  # type: ignore[arg-type]


@pytest.mark.parametrize("way", ["sdpa", "matmul", "einsum", "bmm"])
def test_tables_per_head_follow(way: str) -> None:
    model = _Attention(way)
    scaled, kept = (dict(_member(model, heads=heads).root.named_parameters()) for heads in ("scale", "keep"))
    assert scaled["qkv.weight"].shape == kept["qkv.weight"].shape == (36, 12)
    if way != "bmm":
        assert scaled["table"].shape == (2, 5, 5)
        assert kept["table"].shape == (4, 5, 5)
    if way == "matmul":
        assert scaled["temperature"].shape == (2, 1, 1)
        assert scaled["talk.weight"].shape == (2, 2)


@pytest.mark.parametrize("way", ["sdpa", "matmul", "einsum", "bmm"])
def test_a_member_is_the_network_of_half_the_heads(way: str) -> None:
    half = _Attention(way, 12, 2).eval()
    x = torch.randn(2, 5, 6)
    packed = packify.pack(_Attention(way).eval(), x, alpha=1, num_estimators=2)
    member = packed.extract(0)
    member.load_state_dict(half.state_dict(), strict=True)
    torch.testing.assert_close(member.eval()(x), half(x))
    assert [(note.what, note.why) for note in packed.report.heads] == [("4 heads of 6 -> 2 of 6", "4 x 1/2 is whole")]
    assert "heads: 1" in str(packed.report)
    packify.verify(packed)


def test_the_report_says_why_heads_are_kept() -> None:
    (note,) = _member(_Attention("sdpa", 24, 3)).heads
    assert (note.what, note.why) == ("3 heads of 8 -> 3 of 4", "3 x 1/2 is not whole")
    (note,) = _member(_Attention("sdpa"), heads="keep").heads
    assert (note.what, note.why) == ("4 heads of 6 -> 4 of 3", 'heads="keep"')
    assert _member(_Attention("sdpa"), round_to=1).heads != []


class _Sloped(_Attention):
    """A slope for each head, by its number."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        slopes = torch.arange(self.heads)[:, None, None] * torch.arange(x.shape[1])
        return self.head(self.proj(F.scaled_dot_product_attention(q, k, v, attn_mask=slopes.to(q)).transpose(1, 2).flatten(2)).mean(1))


def test_the_report_says_which_head_counts_are_structure() -> None:
    (note,) = _member(_Sloped("bmm")).heads
    assert note.what == "4 heads of 6 -> 4 of 3", note
    assert note.why == "an axis of whole numbers, which are positions or counts at _constant_0"


def test_specs_of_before_keep_heads() -> None:
    old = {"alpha": 2, "num_estimators": 4}
    assert Spec.from_dict(old).heads == Spec.from_dict(old).groups == "keep"
    spec = Spec(2, 4, groups="scale")
    assert Spec.from_dict(spec.to_dict()) == spec
    assert spec.heads == "scale"
    with pytest.raises(packify.SpecError, match="heads"):
        Spec(2, 4, heads="some")  # type: ignore[arg-type]
