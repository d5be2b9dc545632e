"""Layouts as patterns, and the shapes that they mean."""

from __future__ import annotations

import pytest
import torch

from packify.nn.layouts import Layout
from packify.nn.members import FRONT, merge_members


@pytest.mark.parametrize(
    ("axis", "shape", "pattern"),
    [
        (1, (2, 3, 4, 5), "b (m c) h w"),
        (0, (2, 3, 4, 5), "(m b) c h w"),
        (3, (2, 3, 4, 5), "b h w (m c)"),
        (0, (2, 5, 3), "(m b) n c"),
        (1, (2, 3, 5), "b (m c) l"),
        (2, (2, 5, 3), "b n (m c)"),
        (FRONT, (2, 3), "m b c"),
        (FRONT, (), "m"),
        (None, (2, 3), "b c"),
        (None, (), ""),
        (0, (3,), "(m c)"),
        (1, (2, 3, 4, 5, 6, 7), "a (m b) c d e f"),
    ],
)
def test_patterns_and_packed_shapes(axis: int | None, shape: tuple[int, ...], pattern: str) -> None:
    layout = Layout(axis, shape, torch.float32)
    assert layout.pattern == pattern
    stacked = torch.zeros(7, *shape)
    assert layout.packed_shape(7) == tuple((stacked[0] if axis is None else merge_members(stacked, axis)).shape)
