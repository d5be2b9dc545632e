from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import packify
from packify.execution.kernels import conv_per_member, pointwise_conv, with_batched_products, with_convs_per_member
from tests.unit.execution.networks import packed_convs


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("stride", [1, 2, (2, 1)])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_pointwise_conv_is_the_conv(memory_format: torch.memory_format, bias: bool, stride: Any, batch: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(batch, 12, 5, 4, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()
    weight = torch.randn(8, 3, 1, 1, dtype=torch.float64, requires_grad=True)
    shift = torch.randn(8, dtype=torch.float64, requires_grad=True) if bias else None
    inputs = [one for one in (x, weight, shift) if one is not None]
    expected = F.conv2d(x, weight, shift, stride, groups=4)
    found = pointwise_conv(x, weight, shift, stride, groups=4)
    torch.testing.assert_close(found, expected)
    for mine, theirs in zip(torch.autograd.grad(found.sin().sum(), inputs), torch.autograd.grad(expected.sin().sum(), inputs), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_conv_per_member_is_the_grouped_conv(axes: int) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 12, *[6] * axes), torch.randn(12, 2, *[3] * axes), torch.randn(12)
    conv = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
    expected = conv(x, weight, bias, 2, 1, 1, 6)
    torch.testing.assert_close(conv_per_member(x, weight, bias, 2, 1, 1, 6, members=3), expected)


def test_only_grouped_convs_change() -> None:
    graph = packed_convs().graphs["eval"]
    batched, layers = with_batched_products(graph), with_convs_per_member(graph, 4)
    assert batched is not None
    assert layers is not None
    assert sum(node.target is pointwise_conv for node in batched.nodes) == 1
    assert sum(node.target is conv_per_member for node in layers.nodes) == 2  # the first conv reads the input that all share
    assert len(batched.nodes) == len(graph.nodes)


def test_without_such_convs_there_is_nothing_to_change() -> None:
    packed = packify.pack(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), torch.randn(2, 4), alpha=2, num_estimators=2)
    assert with_batched_products(packed.graphs["eval"]) is None
    packed.strategy = "batched"
    assert packed(torch.randn(2, 4)).shape == (4, 2)
