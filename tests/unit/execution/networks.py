"""Small networks for tests of how packed networks are run."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import packify


def convs(width: int = 16) -> nn.Module:
    """Convs with batch norm: of kernel 3, of kernel 1, with a stride; and a linear head."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.Conv2d(2 * width, width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 5),
    )


def packed_convs(x: torch.Tensor | None = None, **spec: Any) -> packify.PackedNetwork:
    """The same, packed."""
    torch.manual_seed(0)
    spec = {"alpha": 2, "num_estimators": 4} | spec
    return packify.pack(convs(), image() if x is None else x, **spec)


def image(batch: int = 4, size: int = 8) -> torch.Tensor:
    """A batch of images, the same every time."""
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))
