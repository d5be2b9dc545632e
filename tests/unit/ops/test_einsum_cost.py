"""Mult-Adds of an einsum against what torch runs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from packify.ops.einsum_cost import einsum_mult_adds


def meta(*shape):
    return torch.empty(shape, device="meta")


def measured(function, *args, **kwargs):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        output = function(*args, **kwargs)
    return counter.get_total_flops() // 2, output


@st.composite
def equations(draw):
    sizes = {letter: draw(st.sampled_from([1, 2, 3, 4])) for letter in "abcde"}
    terms = draw(st.lists(st.lists(st.sampled_from("abcde"), min_size=1, max_size=3, unique=True).map("".join), min_size=1, max_size=4))
    letters = sorted(set("".join(terms)))
    output = "".join(draw(st.lists(st.sampled_from(letters), max_size=3, unique=True)))
    equation = ",".join(terms) + draw(st.sampled_from(["", "->" + output]))
    return equation, [tuple(sizes[letter] for letter in term) for term in terms]


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(equations())
def test_einsum_agrees_with_flop_counter_mode(drawn):
    equation, shapes = drawn
    operands = [meta(*shape) for shape in shapes]
    expected, _ = measured(torch.einsum, equation, *operands)
    assert einsum_mult_adds(equation, shapes) == expected


@pytest.mark.parametrize(
    ("equation", "shapes", "wanted"),
    [
        ("bhid,bhjd->bhij", [(2, 4, 9, 16), (2, 4, 7, 16)], 2 * 4 * 9 * 7 * 16),
        ("ij,ij->ij", [(3, 4), (3, 4)], 0),  # sums over nothing
        ("ij,jk->k", [(3, 4), (4, 5)], 4 * 5),  # i is summed before the product
        ("ij->i", [(3, 4)], 0),
        ("...i,...i", [(2, 3, 4), (3, 4)], 2 * 3 * 4),
        ("ij,jk->ik", [(3, 1), (1, 5)], 0),  # an axis of one is no sum
        ("i,i->", [(0,), (0,)], 0),
    ],
)
def test_known_answers(equation, shapes, wanted):
    assert einsum_mult_adds(equation, shapes) == wanted
