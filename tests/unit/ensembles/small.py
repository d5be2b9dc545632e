"""What the tests of this room share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )


class Returning(nn.Module):
    def __init__(self, what: Any) -> None:
        super().__init__()
        self.fc, self.what = nn.Linear(5, 3), what

    def forward(self, x: Tensor) -> Any:
        self.fc(x)
        return x if self.what == "x" else self.what
