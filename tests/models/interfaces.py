"""Networks that are odd in what they take, return, hold or are called."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Boxes(NamedTuple):
    scores: Tensor
    boxes: Tensor


@dataclass
class Result:
    logits: Tensor
    features: Tensor
    note: str = "fine"


class Outputs(nn.Module):
    """One trunk, outputs in the structure that `kind` names."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.trunk, self.mid = nn.Linear(5, 16), nn.Linear(16, 8)
        self.classes, self.values = nn.Linear(8, 3), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> object:
        x = self.mid(self.trunk(x).relu()).relu()
        classes, values = self.classes(x), self.values(x)
        return {
            "tuple": lambda: (classes, values),
            "list": lambda: [classes, values],
            "dict": lambda: {"out": classes, "aux": values},
            "ordered": lambda: OrderedDict(out=classes, aux=values),
            "namedtuple": lambda: Boxes(classes, values),
            "dataclass": lambda: Result(classes, values),
            "nested": lambda: {"first": (classes, None), "second": [{"deep": values}], "count": 3},
            "none": lambda: (classes, None),
        }[self.kind]()


class TwoInputs(nn.Module):
    """An image and a table, fused."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.table = nn.Conv2d(3, 8, 3), nn.Linear(4, 8)
        self.fuse, self.head = nn.Linear(16, 12), nn.Linear(12, 3)

    def forward(self, image: Tensor, table: Tensor, scale: float = 1.0) -> Tensor:
        image = self.conv(image).relu().mean((2, 3))
        return self.head(self.fuse(torch.cat([image, self.table(table) * scale], -1)).relu())


class OptionalInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.second, self.head = nn.Linear(5, 8), nn.Linear(2, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor, extra: Tensor | None = None) -> Tensor:
        hidden = self.fc(x)
        if extra is not None:
            hidden = hidden + self.second(extra)
        return self.head(hidden.relu())


class Regression(nn.Module):
    """One number per sample, without an axis for it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.out = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.fc2(torch.tanh(self.fc1(x))))).squeeze(-1)


class Colliding(nn.Module):
    """Children called what a packed network's own attributes are called."""

    def __init__(self) -> None:
        super().__init__()
        self.members, self.report, self.extract = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.body, self.graphs, self.spec = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.run, self.interface, self.inputs = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.average, self.code, self.template = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.num_estimators = nn.Parameter(torch.ones(8))
        self.register_buffer("batched", torch.full((8,), 0.5))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.members, self.report, self.extract, self.body, self.graphs, self.spec, self.run, self.interface, self.inputs):
            x = layer(x).relu()
        for layer in (self.average, self.code, self.template):
            x = layer(x).tanh()
        return self.head(x * self.num_estimators + self.batched)


class Tables(nn.Module):
    """Index tables, permutations, masks and scalars as buffers and as constants in the code."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.head = nn.Linear(6, 8), nn.Linear(5, 8), nn.Linear(8, 3)
        self.register_buffer("order", torch.tensor([2, 0, 1, 4, 3]))
        self.register_buffer("mask", torch.tensor([True, False, True, True, False]))
        self.register_buffer("mean", torch.linspace(-1, 1, 6))
        self.register_buffer("scale", torch.tensor(0.7))
        self.register_buffer("steps", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1((x - self.mean) * self.scale)
        x = x[:, self.order]
        x = torch.where(self.mask[None, :, None], x, torch.tensor(0.5, dtype=x.dtype))
        x = self.fc2(x.transpose(1, 2))
        return self.head(x.index_select(1, torch.tensor([0, 0, 1])).mean(1))


class Pairs(nn.Module):
    """A Siamese network whose output compares two embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        left, right = self.trunk(left), self.trunk(right)
        return F.cosine_similarity(left, right, dim=-1)


class Wide(nn.Module):
    """Wide enough for gamma > 1 under the default policy."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 128, 3, padding=1, bias=False), nn.BatchNorm2d(128)
        self.conv2, self.bn2 = nn.Conv2d(128, 256, 3, padding=1, bias=False), nn.BatchNorm2d(256)
        self.conv3, self.bn3 = nn.Conv2d(256, 256, 1, bias=False), nn.BatchNorm2d(256)
        self.fc, self.head = nn.Linear(256, 256), nn.Linear(256, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn3(self.conv3(F.relu(self.bn2(self.conv2(x))))))
        return self.head(self.fc(x.mean((2, 3))).relu())
