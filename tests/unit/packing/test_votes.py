"""The layout of a stream is settled by all who make and read it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, fx, nn
from torchvision.models import convnext, vision_transformer

import packify
from packify.packing.votes import Meeting, Place, chosen_axes

_VIT = {"img_size": 64, "depth": 3, "num_classes": 5}
_SWIN = {"img_size": 56, "depths": (2, 2), "num_heads": (2, 4), "num_classes": 5}
_CONVNEXT = {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32), "num_classes": 5}


@pytest.mark.slow_cases("swin", "convnext")
@pytest.mark.parametrize(
    ("build", "size", "most"),
    [
        (lambda: timm.create_model("vit_tiny_patch16_224", **_VIT), 64, 1),  # from the conv of the patches to tokens
        (lambda: timm.create_model("swin_tiny_patch4_window7_224", **_SWIN), 56, 0),
        (lambda: timm.create_model("convnext_atto", **_CONVNEXT), 64, 0),
        (lambda: timm.create_model("resnet18", num_classes=5), 64, 0),
    ],
    ids=["vit", "swin", "convnext", "resnet"],
)
def test_no_relayout_that_can_be_avoided(build: Callable[[], nn.Module], size: int, most: int) -> None:
    with torch.device("meta"):
        model, x = build(), torch.empty(2, 3, size, size)
    report = packify.pack(model, x, alpha=2, num_estimators=2).report
    assert len(report.relayouts) == most
    assert report.relayout_bytes == most * 2 * 16 * 192 * 4  # two members' tokens, in float32


def _blocks_of_a_convnext(chance: float) -> nn.Module:
    """Two blocks as torchvision writes them: linear layers between convs, and a scale ``"c 1 1"`` on the way back to the stream.

    Where branches are left out by chance, training multiplies them by numbers ``"b 1 1 1"`` of every member.
    """
    return nn.Sequential(nn.Conv2d(3, 8, 1), *(convnext.CNBlock(8, 1e-6, chance) for _ in range(2)), nn.Conv2d(8, 5, 1))


class _CosineAttention(nn.Module):
    """As Swin V2 writes it: what is added to the weights of attention comes from rows of a table that are put side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.qkv, self.out, self.head = nn.Conv2d(3, 8, 8, 8), nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 5)
        self.table = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))
        self.register_buffer("grid", torch.randn(31, 2))
        self.register_buffer("places", torch.randint(31, (256,)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(x).reshape(x.shape[0], 16, 3, 2, 4).permute(2, 0, 3, 1, 4)
        near = self.table(self.grid)[self.places].view(16, 16, -1).permute(2, 0, 1).contiguous().unsqueeze(0)
        weights = nn.functional.normalize(q, dim=-1) @ nn.functional.normalize(k, dim=-1).transpose(-2, -1) + 16 * near.sigmoid()
        return self.head((weights.softmax(-1) @ v).transpose(1, 2).flatten(2) + self.out(x)).mean(1)


def _vit_of_torchvision() -> nn.Module:
    return vision_transformer.VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=5)


@pytest.mark.parametrize(
    ("build", "most"),
    [
        (lambda: _blocks_of_a_convnext(0.0), 2),  # one in a block: what a linear layer returns is elsewhere than what a conv reads
        (lambda: _blocks_of_a_convnext(0.3), 2),
        (_vit_of_torchvision, 1),  # from the conv of the patches to tokens
        (_CosineAttention, 0),
    ],
    ids=["convnext", "convnext with chance", "vit", "cosine attention"],
)
def test_streams_do_not_go_to_and_fro(build: Callable[[], nn.Module], most: int) -> None:
    with torch.device("meta"):
        model, x = build(), torch.empty(2, 3, 32, 32)
    assert len(packify.pack(model, x, alpha=2, num_estimators=2).report.relayouts) == most


class _Stream(nn.Module):
    """A conv's tokens, a learned first token and table, and branches of linear layers or of convs that are added to them."""

    def __init__(self, *, convs: bool, norm: type[nn.Module] = nn.LayerNorm) -> None:
        super().__init__()
        self.convs = convs
        self.patch, self.token, self.table = nn.Conv2d(3, 8, 2, 2), nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 17, 8))
        self.norms = nn.ModuleList([norm(8) for _ in range(3)])
        self.branches = nn.ModuleList([nn.Conv1d(8, 8, 3, padding=1) if convs else nn.Linear(8, 8) for _ in range(3)])
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.table
        for norm, branch in zip(self.norms, self.branches, strict=True):
            y = norm(x)
            x = x + (branch(y.transpose(1, 2)).transpose(1, 2) if self.convs else branch(y)).relu()
        return self.head(x.mean(1))


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm, nn.Identity])
@pytest.mark.parametrize("convs", [False, True])
def test_streams_keep_the_laws_wherever_their_members_are(convs: bool, norm: Any) -> None:
    torch.manual_seed(0)
    model, x = _Stream(convs=convs, norm=(lambda _: nn.Identity()) if norm is nn.Identity else norm), torch.randn(2, 3, 8, 8)
    packed = packify.pack(model, x, alpha=2, num_estimators=2)
    packify.verify(packed)
    # one where tokens come together; what linear layers return is elsewhere than what a conv returns
    assert len(packed.report.relayouts) <= 2
    assert not [note for note in packed.report.relayouts if note.node.startswith(("branches", "norms"))]


def _nodes(count: int) -> list[fx.Node]:
    graph = fx.Graph()
    return [graph.placeholder(f"x{index}") for index in range(count)]


def test_most_elements_decide() -> None:
    conv, linear, add, other = _nodes(4)
    assert chosen_axes([Meeting(add, [Place(conv, 2, 10), Place(linear, 0, 30)])], []) == {add: 0}
    assert chosen_axes([Meeting(add, [Place(conv, 2, 10), Place(linear, 0, 10)])], []) == {}
    demand = [Place(add, 2, 10)]
    assert chosen_axes([Meeting(add, [Place(conv, 2, 10), Place(linear, 0, 10)])], demand) == {add: 2}
    assert chosen_axes([Meeting(add, [Place(conv, 2, 10), Place(linear, 0, 10)])], [Place(other, 0, 99)]) == {}


def test_a_chain_of_sums_is_one_stream() -> None:
    conv, one, two, first, second = _nodes(5)
    chain = [Meeting(first, [Place(conv, 2, 10), Place(one, 0, 10)]), Meeting(second, [Place(first, 2, 10), Place(two, 0, 10)])]
    assert chosen_axes(chain, []) == {first: 0, second: 0}


def test_what_can_be_anywhere_follows_its_stream() -> None:
    norm, linear, add = _nodes(3)
    assert chosen_axes([Meeting(norm, []), Meeting(add, [Place(norm, 2, 10), Place(linear, 0, 10)])], []) == {norm: 0, add: 0}
