from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import packify
from packify.capture.graphs import record_graphs
from tests.unit.capture.small import Small


@pytest.mark.parametrize(
    "function",
    [
        lambda h: h / math.sqrt(h.shape[1]) * math.log(h.shape[1]),
        lambda h: h.reshape(h.shape[0], np.prod(h.shape[1:])) / np.sqrt(h.shape[1]),
        lambda h: h * math.exp(-h.size(1)),
        lambda h: h / len(h[0]) + torch.ones(len(h), 1) + len([h]),
    ],
)
def test_functions_of_sizes_are_followed(function: Any) -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return function(self.fc(x).mean(2))

    model = Tokens()
    packed = packify.pack_members([model], torch.randn(2, 5, 3))
    x = torch.randn(4, 9, 3)
    torch.testing.assert_close(packed.members(x)[0], model(x))


def test_autocast_inside_forward_is_noted() -> None:
    def function(h: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return (h @ h.t()).float()

    (note,) = record_graphs(Small(function), torch.randn(3, 5)).notes
    assert "autocast to torch.bfloat16" in str(note)
    assert "test_patches.py" in note.source


def test_libraries_are_told_that_they_are_exported() -> None:
    model = Small(lambda h: h if torch.compiler.is_compiling() and torch.compiler.is_exporting() else h.sum().item())
    record_graphs(model, torch.randn(3, 5))
    assert not torch.compiler.is_exporting()


def test_chance_of_python_is_noted_and_left_alone() -> None:
    states = random.getstate(), np.random.get_state()[1].copy()
    recorded = record_graphs(Small(lambda h: h * random.random() + np.random.rand()), torch.randn(3, 5))  # noqa: S311
    assert any("decided for good" in note.what for note in recorded.notes)
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])
