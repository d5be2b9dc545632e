"""Rows of operators that move, join, cut and make tensors."""

from __future__ import annotations

import pytest

from packify.ops.rule import Rule
from packify.ops.shape_rows import SHAPES

_ROWS = dict(SHAPES)


def test_every_row_says_its_arguments_and_both_rules() -> None:
    for name, rule in SHAPES:
        assert rule.signature is not None, name
        assert rule.widths is not None, name
        assert rule.pack is not None, name


@pytest.mark.parametrize(
    "name", ["reshape", "expand", "zeros", "new_zeros", "arange", "eye", "split", "pad", "getitem", "narrow", "unflatten", "repeat"]
)
def test_what_is_given_sizes_can_be_refitted(name: str) -> None:
    assert _ROWS[name].refit is not None


def test_what_makes_a_tensor_from_numbers_alone_is_marked() -> None:
    created = {name for name, rule in SHAPES if "created" in (rule.traits or ())}
    assert created == {"zeros", "ones", "empty", "full", "rand", "randn", "arange", "linspace", "logspace", "eye", "randperm", "randint"}


def test_no_name_comes_twice() -> None:
    assert len(_ROWS) == len(SHAPES)


def test_an_output_behind_a_move_of_axes_is_averaged_as_what_it_moved() -> None:
    assert {name for name, rule in SHAPES if "hands_on" in (rule.traits or ())} >= {"permute", "transpose", "reshape", "flatten", "getitem"}
    assert all(isinstance(rule, Rule) for rule in _ROWS.values())
