"""Logits whose best temperature is known."""

from __future__ import annotations

import torch
from torch import Tensor


def overconfident(samples: int, classes: int = 6, temperature: float = 2.5, seed: int = 0, scale: float = 1.5) -> tuple[Tensor, Tensor]:
    """Logits that are `temperature` times as large as the labels warrant."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(samples, classes, generator=generator, dtype=torch.float64) * scale
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return logits * temperature, labels
