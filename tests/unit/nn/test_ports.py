"""What goes in and out of modules."""

from __future__ import annotations

import copy

import torch
from torch import nn

import packify
from packify.nn.layouts import Layout
from packify.nn.ports import Ports, ports_of


def _layout(axis: int | None, *shape: int) -> Layout:
    return Layout(axis, shape, torch.float32)


def test_ports_are_told_as_patterns() -> None:
    ports = Ports((_layout(None, 2, 3, 8, 8), 3), {"mask": _layout(0, 2, 5, 5)}, {"out": _layout(1, 2, 8, 4, 4)}, 2)
    assert [layout.pattern for layout in ports.inputs] == ["b c h w", "(m b) n c"]
    assert [layout.pattern for layout in ports.outputs] == ["b (m c) h w"]
    assert str(ports) == "b c h w, (m b) n c -> b (m c) h w"
    assert str(Ports((), {}, None)) == ""
    assert copy.deepcopy(ports) is ports


def test_modules_that_are_called_have_ports() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 4))
    packed = packify.pack(net, torch.randn(2, 3, 4, 4), alpha=2, num_estimators=2)
    assert [str(ports_of(packed.get_submodule(str(index)))[0]) for index in range(4)] == [
        "b c h w -> b (m c) h w",
        "b (m c) h w -> b (m c) h w",
        "b (m c) h w -> b (m c)",
        "b (m c) -> (m b) c",
    ]
    assert ports_of(nn.Linear(1, 1)) == ()
    assert repr(packed).splitlines() == [
        "PackedNetwork(",
        "  (0): Conv2d(3, 16, kernel_size=(3, 3), stride=(1, 1), b c h w -> b (m c) h w)",
        "  (1): ReLU(b (m c) h w -> b (m c) h w)",
        "  (2): Flatten(start_dim=1, end_dim=-1, b (m c) h w -> b (m c))",
        "  (3): PackedLinear(32, 4, members=2, bias=True, b (m c) -> (m b) c)",
        ")",
    ]
