import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from packify.budgets import counters
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


def test_arguments_by_name():
    x, weight = meta(2, 7, 5), meta(4, 5)
    assert op_mult_adds(F.linear, (), {"input": x, "weight": weight}, meta(2, 7, 4)) == 2 * 7 * 4 * 5
    query = meta(2, 3, 7, 8)
    assert op_mult_adds(F.scaled_dot_product_attention, (query,), {"key": query, "value": query}, query) == 2 * 3 * 7 * 7 * 16


@pytest.mark.parametrize("op", ["relu", "batch_norm", "layer_norm", "softmax", "add", "max_pool2d", "embedding", "interpolate"])
def test_pointwise_work_is_not_counted(op):
    assert RULES[op].mult_adds is None


def test_a_leaf_without_a_formula_is_measured():
    module = nn.Sequential(nn.Conv2d(3, 4, 3, device="meta"), nn.ReLU())
    x = meta(2, 3, 8, 8)
    assert module_mult_adds(module, (x,), {}, module(x)) == 2 * 4 * 6 * 6 * 3 * 9


def test_norms_and_modules_without_weights_count_nothing():
    x = meta(2, 3, 8, 8)
    for module in (nn.BatchNorm2d(3, device="meta"), nn.Dropout(), nn.PReLU(device="meta")):
        assert module_mult_adds(module, (x,), {}, x) == 0
