"""One name per operator, whatever way it was called."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from packify.capture.operators import ALIASES, PASSIVE, operator_of
from packify.ops.table import RULES


@pytest.mark.parametrize(
    ("functions", "name"),
    [
        ((torch.add, torch.Tensor.add, torch.Tensor.__add__, torch.Tensor.__radd__, operator.add), "add"),
        ((torch.mul, torch.multiply, torch.Tensor.mul, torch.Tensor.__mul__), "mul"),
        ((torch.div, torch.true_divide, torch.Tensor.__truediv__), "div"),
        ((torch.reshape, torch.Tensor.view, torch.Tensor.reshape), "reshape"),
        ((torch.cat, torch.concat, torch.concatenate), "cat"),
        ((torch.clamp, torch.clip, torch.Tensor.clamp), "clamp"),
        ((torch.transpose, torch.swapaxes, torch.Tensor.swapdims), "transpose"),
        ((torch.softmax, F.softmax, torch.special.softmax), "softmax"),
        ((torch.Tensor.split_with_sizes, torch.split), "split"),
        ((torch.Tensor.__getitem__, operator.getitem), "getitem"),
        ((F.pad, torch._C._nn.pad), "pad"),
        ((F.scaled_dot_product_attention,), "scaled_dot_product_attention"),
    ],
)
def test_spellings(functions: tuple[Callable[..., Any], ...], name: str) -> None:
    assert {operator_of(function).name for function in functions} - {"r" + name} == {name}


@pytest.mark.parametrize(
    "function",
    [torch.Tensor.add_, torch.Tensor.__iadd__, torch.relu_, torch.Tensor.__setitem__, torch.Tensor.masked_fill_, torch.Tensor.__imul__],
)
def test_in_place(function: Callable[..., Any]) -> None:
    assert operator_of(function).inplace


def test_properties_are_getters() -> None:
    assert operator_of(torch.Tensor.T.__get__).getter
    assert operator_of(torch.Tensor.T.__get__).name == "T"


def test_passive_reads_have_no_rule_and_aliases_lead_to_one() -> None:
    assert not PASSIVE & set(RULES)
    assert not {alias for alias, name in ALIASES.items() if alias != name and name in RULES} & set(RULES)
