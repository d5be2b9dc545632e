"""Layouts as patterns."""

from __future__ import annotations

import pytest
import torch

from packify.nn.layouts import Layout
from packify.nn.members import FRONT


@pytest.mark.parametrize(
    ("axis", "shape", "pattern", "packed"),
    [
        (1, (2, 8, 4, 4), "b (m c) h w", (2, 24, 4, 4)),
        (0, (2, 5, 8), "(m b) n c", (6, 5, 8)),
        (2, (2, 5, 8), "b n (m c)", (2, 5, 24)),
        (FRONT, (2, 8), "m b c", (3, 2, 8)),
        (FRONT, (), "m", (3,)),
        (None, (2, 8), "b c", (2, 8)),
        (0, (2, 4, 4, 8), "(m b) c h w", (6, 4, 4, 8)),
        (3, (2, 4, 4, 8), "b h w (m c)", (2, 4, 4, 24)),
        (1, (2, 3, 4, 5, 6, 7), "a (m b) c d e f", (2, 9, 4, 5, 6, 7)),
    ],
)
def test_patterns_and_shapes(axis: int | None, shape: tuple[int, ...], pattern: str, packed: tuple[int, ...]) -> None:
    layout = Layout(axis, shape, torch.float32)
    assert layout.pattern == pattern
    assert layout.packed_shape(3) == packed
