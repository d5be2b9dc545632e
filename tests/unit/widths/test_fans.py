"""Which axes of a parameter a layer sums over, however the parameter gets there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from packify.ops.table import RULES
from packify.widths.fans import running_means, summed_axes
from tests.unit.widths.small import analysed


def _summed(forward: Any, x: Any, **held: Any) -> dict[str, tuple[int, ...]]:
    recorded = analysed(forward, x, **held).recorded
    return summed_axes(recorded.root, recorded.graphs, RULES)


def _weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape))


X = torch.randn(2, 6)


@pytest.mark.parametrize(
    ("forward", "shape", "axes"),
    [
        (lambda net, x: F.linear(x, net.w), (4, 6), (1,)),
        (lambda net, x: F.conv1d(x[..., None], net.w), (4, 6, 1), (1,)),
        (lambda net, x: F.conv_transpose1d(x[..., None], net.w), (6, 4, 1), (0,)),
        (lambda net, x: F.bilinear(x, x, net.w), (4, 6, 6), (1, 2)),
        (lambda net, x: x @ net.w, (6, 4), (0,)),
        (lambda net, x: torch.bmm(x[None].expand(3, -1, -1), net.w), (3, 6, 4), (1,)),
        (lambda net, x: net.w @ x.T, (4, 6), (1,)),
        (lambda net, x: F.linear(x, net.w.chunk(2)[1]), (8, 6), (1,)),
        (lambda net, x: F.linear(x, net.w[:4].contiguous()), (8, 6), (1,)),
        (lambda net, x: x * net.w, (6,), None),
        (lambda net, x: F.linear(x, net.w.view(4, 6)), (24,), None),  # its one axis is two of the weight's
        (lambda net, x: F.linear(x, net.w / net.w.norm(dim=1, keepdim=True)), (4, 6), None),  # follows a narrower weight by itself
    ],
)
def test_the_axis_that_is_summed(forward: Any, shape: tuple[int, ...], axes: Any) -> None:
    assert _summed(forward, X, w=_weight(*shape)) == ({} if axes is None else {"w": axes})


def test_what_two_layers_read_differently_is_left_out() -> None:
    square = _weight(6, 6)
    assert _summed(lambda net, x: F.linear(F.linear(x, net.w), net.w), X, w=square) == {"w": (1,)}
    assert _summed(lambda net, x: F.linear(x @ net.w, net.w), X, w=square) == {}


def test_recurrent_layers_sum_over_the_second_axis_of_every_matrix() -> None:
    found = _summed(lambda net, x: net.rnn(x[:, None])[0], X, rnn=nn.LSTM(6, 8, proj_size=3))
    assert found == {f"rnn.weight_{kind}_l0": (1,) for kind in ("ih", "hh", "hr")}


def test_running_means_of_norms_behind_layers() -> None:
    def forward(net: Any, x: Any) -> Any:
        x = x[..., None]
        x = net.norm(net.conv(x))
        x = net.after_relu(net.biased(x).relu())
        return F.batch_norm(net.biased(x), net.mean, net.var)

    recorded = analysed(
        forward,
        X,
        conv=nn.Conv1d(6, 6, 1, bias=False),
        norm=nn.BatchNorm1d(6),
        biased=nn.Conv1d(6, 6, 1),
        after_relu=nn.BatchNorm1d(6),
        mean=nn.Buffer(torch.zeros(6)),
        var=nn.Buffer(torch.ones(6)),
    ).recorded
    assert running_means(recorded.graphs, RULES) == {
        "norm.running_mean": ("conv.weight", None),
        "mean": ("biased.weight", "biased.bias"),
    }
