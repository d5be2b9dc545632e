"""Formulas of Mult-Adds against what torch runs, loops and definitions."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from packify.budgets import counters
from packify.ops import mult_adds
from packify.ops.table import RULES


def op_mult_adds(function, args, kwargs, output):
    return counters.op_mult_adds(RULES, function, args, kwargs, output)


def module_mult_adds(module, args, kwargs, output):
    return counters.module_mult_adds(RULES, module, args, kwargs, output)


def meta(*shape):
    return torch.empty(shape, device="meta")


def measured(function, *args, **kwargs):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        output = function(*args, **kwargs)
    return counter.get_total_flops() // 2, output


CALLS = [
    ("conv1d", F.conv1d, (meta(2, 6, 20), meta(8, 3, 5)), {"groups": 2, "stride": 2}),
    ("conv2d", F.conv2d, (meta(2, 3, 9, 8), meta(8, 3, 3, 2), meta(8)), {"padding": 1}),
    ("conv2d", F.conv2d, (meta(2, 8, 9, 8), meta(8, 1, 3, 3)), {"groups": 8, "dilation": 2}),
    ("conv3d", F.conv3d, (meta(1, 4, 5, 6, 7), meta(6, 2, 3, 3, 3)), {"groups": 2}),
    ("conv_transpose1d", F.conv_transpose1d, (meta(2, 6, 9), meta(6, 4, 3)), {"groups": 2, "stride": 2}),
    ("conv_transpose2d", F.conv_transpose2d, (meta(2, 6, 5, 4), meta(6, 4, 3, 3), meta(4)), {"stride": 2, "output_padding": 1}),
    ("conv_transpose3d", F.conv_transpose3d, (meta(2, 4, 3, 3, 3), meta(4, 2, 2, 2, 2)), {}),
    ("linear", F.linear, (meta(2, 7, 5), meta(4, 5), meta(4)), {}),
    ("matmul", torch.matmul, (meta(2, 3, 4, 5), meta(3, 5, 6)), {}),
    ("matmul", torch.matmul, (meta(4, 5), meta(5, 6)), {}),
    ("mm", torch.mm, (meta(4, 5), meta(5, 6)), {}),
    ("bmm", torch.bmm, (meta(3, 4, 5), meta(3, 5, 6)), {}),
    ("addmm", torch.addmm, (meta(6), meta(4, 5), meta(5, 6)), {}),
    ("baddbmm", torch.baddbmm, (meta(3, 4, 6), meta(3, 4, 5), meta(3, 5, 6)), {"beta": 0.5}),
    ("tensordot", torch.tensordot, (meta(3, 4, 5), meta(4, 5, 6)), {"dims": 2}),
    ("tensordot", torch.tensordot, (meta(3, 4, 5), meta(5, 3, 2)), {"dims": ([0, 2], [1, 0])}),
    ("einsum", torch.einsum, ("bhid,bhjd->bhij", meta(2, 3, 4, 5), meta(2, 3, 6, 5)), {}),
    ("einsum", torch.einsum, ("...ij,...jk", meta(2, 3, 4, 5), meta(1, 5, 6)), {}),
    ("einsum", torch.einsum, ("ab,bc,cd->ad", meta(2, 3), meta(3, 4), meta(4, 5)), {}),
    ("einsum", torch.einsum, ("i,j->ij", meta(4), meta(5)), {}),
    ("einsum", torch.einsum, (meta(4, 5), [0, 1], meta(5, 6), [1, 2], [0, 2]), {}),
    ("scaled_dot_product_attention", F.scaled_dot_product_attention, (meta(2, 3, 7, 8), meta(2, 3, 9, 8), meta(2, 3, 9, 6)), {}),
    (
        "scaled_dot_product_attention",
        F.scaled_dot_product_attention,
        (meta(2, 6, 7, 8), meta(2, 3, 9, 8), meta(2, 3, 9, 8)),
        {"enable_gqa": True},
    ),
    ("scaled_dot_product_attention", F.scaled_dot_product_attention, (meta(2, 3, 7, 8),) * 3, {"is_causal": True}),
    ("lstm_cell", torch.lstm_cell, (meta(2, 5), (meta(2, 4), meta(2, 4)), meta(16, 5), meta(16, 4), meta(16), meta(16)), {}),
    ("gru_cell", torch.gru_cell, (meta(2, 5), meta(2, 4), meta(12, 5), meta(12, 4)), {}),
    ("linalg_multi_dot", torch.linalg.multi_dot, ([meta(10, 4), meta(4, 30), meta(30, 2)],), {}),
]


@pytest.mark.parametrize(("op", "function", "args", "kwargs"), CALLS, ids=[f"{i}-{call[0]}" for i, call in enumerate(CALLS)])
def test_counts_agree_with_flop_counter_mode(op, function, args, kwargs):
    expected, output = measured(function, *args, **kwargs)
    assert expected > 0 or op == "einsum"
    assert op_mult_adds(function, args, kwargs, output) == expected


def brute_force_conv(x, weight, groups, stride, padding):
    """Multiplications of a 2-D convolution counted one by one, those with the zeros of the padding included."""
    (batch, _, height, width), (out, fan, tall, wide) = x, weight
    rows = range(0, height + 2 * padding - tall + 1, stride)
    columns = range(0, width + 2 * padding - wide + 1, stride)
    return sum(1 for _ in itertools.product(range(batch), range(out), rows, columns, range(fan), range(tall), range(wide)))


@pytest.mark.parametrize(("groups", "stride", "padding"), [(1, 1, 0), (2, 2, 1), (4, 1, 2)])
def test_conv_by_brute_force(groups, stride, padding):
    x, weight = meta(2, 4, 5, 6), meta(8, 4 // groups, 3, 2)
    output = F.conv2d(x, weight, stride=stride, padding=padding, groups=groups)
    assert op_mult_adds(F.conv2d, (x, weight), {}, output) == brute_force_conv(x.shape, weight.shape, groups, stride, padding)


# FlopCounterMode counts none of these; the right-hand sides are the definitions.
@pytest.mark.parametrize(
    ("op", "args", "output", "expected"),
    [
        (torch.mv, (meta(4, 5), meta(5)), meta(4), 4 * 5),
        (torch.dot, (meta(5), meta(5)), meta(), 5),
        (torch.matmul, (meta(5), meta(5)), meta(), 5),
        (torch.inner, (meta(2, 5), meta(3, 5)), meta(2, 3), 2 * 3 * 5),
        (torch.addmv, (meta(4), meta(4, 5), meta(5)), meta(4), 4 * 5),
        (torch.addbmm, (meta(4, 6), meta(3, 4, 5), meta(3, 5, 6)), meta(4, 6), 3 * 4 * 5 * 6),
        (F.bilinear, (meta(2, 3), meta(2, 4), meta(5, 3, 4)), meta(2, 5), 2 * 5 * 3 * 4 + 2 * 5 * 4),
        (
            F.multi_head_attention_forward,
            (meta(7, 2, 8), meta(9, 2, 8), meta(9, 2, 8), 8, 2, None, None, None, None, False, 0.0, None, None),
            (meta(7, 2, 8), None),
            2 * (2 * 7 * 8 * 8 + 2 * 9 * 8 * 8 + 2 * 7 * 9 * 8),
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_counts_by_definition(op, args, output, expected):
    assert op_mult_adds(op, args, {}, output) == expected


@pytest.mark.parametrize(
    "module",
    [
        nn.LSTM(5, 4, num_layers=2, bidirectional=True, device="meta"),
        nn.LSTM(5, 4, proj_size=3, device="meta"),
        nn.GRU(5, 4, batch_first=True, device="meta"),
        nn.RNN(5, 4, bias=False, device="meta"),
    ],
    ids=["lstm", "projected", "gru", "rnn"],
)
def test_recurrent_layers_agree_with_flop_counter_mode(module):
    x = meta(3, 7, 5)
    expected, output = measured(module, x)
    assert expected > 0
    assert module_mult_adds(module, (x,), {}, output) == expected


def test_einsum_takes_its_operands_in_a_list_too():
    operands = [meta(4, 5), meta(5, 6)]
    assert op_mult_adds(torch.einsum, ("ij,jk->ik", operands), {}, meta(4, 6)) == math.prod((4, 5, 6))


def test_a_chain_is_multiplied_in_the_cheapest_order():
    shapes = [(5, 2), (2, 9), (9, 1), (1, 7)]

    def cheapest(matrices):
        if len(matrices) == 1:
            return 0
        splits = ((matrices[:k], matrices[k:]) for k in range(1, len(matrices)))
        return min(cheapest(a) + cheapest(b) + a[0][0] * b[0][0] * b[-1][1] for a, b in splits)

    assert mult_adds.chain(None, [meta(*shape) for shape in shapes]) == cheapest(shapes)
    assert mult_adds.chain(None, [meta(4), meta(4, 5), meta(5)]) == 4 * 5 + 4  # (4) by ((4, 5) by (5))


def test_sublists_are_an_equation():
    assert mult_adds._from_sublists((meta(4, 5), [0, 1], meta(5, 6), [1, 2], [0, 2])) == ("AB,BC->AC", [(4, 5), (5, 6)])
    assert mult_adds._from_sublists((meta(4, 5), [Ellipsis, 1])) == ("...B", [(4, 5)])
