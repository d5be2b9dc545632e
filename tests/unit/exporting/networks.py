"""Small networks that the tests of this room export."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import packify


class Attention(nn.Module):
    """Tokens that attend to each other, whose sizes come from the input."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 4, stride=4)
        self.qkv = nn.Linear(16, 48)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, n, 3, 4, c // 4).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c)
        return self.head(x.mean(1))


class Biased(Attention):
    """Attention with a bias for every pair of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(4, 4, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, n, 3, 4, c // 4).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=self.bias).transpose(1, 2).reshape(b, n, c)
        return self.head(x.mean(1))


def conv_net(classes: int = 5) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes)
    )


def packed_of(model: nn.Module, average: str = "probs", **options: Any) -> Any:
    """A packed network in evaluation mode, of weights that make members differ."""
    torch.manual_seed(0)
    packed = packify.pack(model, torch.randn(2, 3, 8, 8), alpha=2, num_estimators=3, average=average, **options).eval()
    with torch.no_grad():
        for parameter in packed.parameters():
            parameter.mul_(2)
    return packed
