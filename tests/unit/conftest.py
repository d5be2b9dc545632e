"""A file of a user's own networks, as a project of theirs would have it."""

from __future__ import annotations

from pathlib import Path

import pytest

_NETS = """
import torch
from torch import nn

from blocks import Block


def conv(num_classes=5, in_chans=3, width=32):
    return nn.Sequential(
        nn.Conv2d(in_chans, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        Block(width),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes),
    )


conv.input_size = (3, 8, 8)


class Mlp(nn.Module):
    input_size = (12,)

    def __init__(self, hidden=16, num_classes=3):
        super().__init__()
        self.one = nn.Linear(12, hidden)
        self.two = nn.Linear(hidden, num_classes)

    def forward(self, x):
        return self.two(torch.relu(self.one(x)))


class Tied(nn.Module):
    input_size = (6,)

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.a = nn.Linear(8, 8)
        self.b = nn.Linear(8, 8)
        self.b.weight = self.a.weight
        self.last = nn.Linear(8, 2)
        self.register_buffer("scale", torch.full((1,), 0.5), persistent=False)

    def forward(self, x):
        return self.last(self.b(torch.relu(self.a(self.first(x) * self.scale))))


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, tokens):
        return self.head(self.embed(tokens).mean(1))

    @staticmethod
    def example_inputs():
        return torch.zeros(2, 5, dtype=torch.long)


def unsized():
    return nn.Linear(3, 2)


def broken(depth=1):
    layers = [nn.Linear(4, 4)] * depth
    raise ValueError("no such depth")


def not_a_network():
    return 3


def leaves():
    raise SystemExit(3)


def reads_numbers():
    net = nn.Linear(4, 2)
    net.scale = net.weight.abs().max().item()
    return net


class Branching(nn.Module):
    input_size = (4,)

    def __init__(self):
        super().__init__()
        self.one = nn.Linear(4, 4)

    def forward(self, x):
        if x.sum() > 0:
            return self.one(x)
        return x


ready = nn.Identity()
"""

_BLOCKS = """
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x):
        return x + self.norm(self.conv(x)).relu()
"""


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    """The path of a file with factories, with a neighbour that it imports."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "blocks.py").write_text(_BLOCKS)
    file = folder / "nets.py"
    file.write_text(_NETS)
    return file
