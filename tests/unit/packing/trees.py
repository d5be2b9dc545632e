"""Flat graphs of small trees of modules, cut into the calls of their modules."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from packify.capture.graphs import RecordedGraphs, record_graphs
from packify.packing.frames import Frame, Frames
from packify.packing.ports import OwnNames, SettledPorts

X = torch.randn(3, 4)


class Inner(nn.Module):
    """A layer and something beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor, scale: Any = 2.0) -> Any:
        return self.fc(x).relu() * scale


class Outer(nn.Module):
    """Calls one part twice, and gives what it is given back from another."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.same, self.drop = Inner(), nn.Identity(), nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        z = self.inner(self.same(y), scale=y.mean())
        return self.drop(z) + x.shape[1]


class Network(nn.Module):
    """A stem and a part with parts."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.outer = nn.Linear(4, 4), Outer()

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.stem(x).tanh()).exp()


def recorded(model: nn.Module, x: Any = X) -> RecordedGraphs:
    """A recording whose nodes say, as those of a member do, which recorded node they are."""
    found = record_graphs(model, x)
    for graph in found.graphs.values():
        for node in graph.nodes:
            node.meta["recorded"] = (node.name,)
    return found


def cut(model: nn.Module, x: Any = X, mode: str = "eval") -> tuple[fx.Graph, Frames, SettledPorts, OwnNames]:
    """The graph of a network, its calls and what goes in and out of each."""
    found = recorded(model, x)
    own = OwnNames(found.root)
    frames = Frames(found.graphs[mode], found.calls[mode], own.reaches)
    return found.graphs[mode], frames, SettledPorts(frames, own), own


def calls_of(frames: Frames, path: str) -> list[Frame]:
    """The calls of a module."""
    return [frame for frame in frames.root.frames() if frame.path == path]
