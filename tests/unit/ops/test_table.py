from __future__ import annotations

import operator

import pytest
import torch
from torch import nn

import packify
from packify.capture.operators import RANDOM
from packify.ops.rule import TRAITS, Rule
from packify.ops.table import RULES, complete, merged, names_of, random_operators, table_of


def test_no_operator_has_two_rows() -> None:
    with pytest.raises(packify.SpecError, match="a second row"):
        table_of([("relu", Rule("a"))], [("relu", Rule("b"))])


def test_recordings_and_rows_agree_on_chance() -> None:
    assert {name for name, rule in RULES.items() if "random" in rule.traits} == set(RANDOM)


def test_every_trait_is_some_operators() -> None:
    assert set().union(*(rule.traits for rule in RULES.values())) == TRAITS.keys()


def test_what_a_row_leaves_out_is_as_packifys_own_has_it() -> None:
    known = RULES["linear"]
    own = complete(Rule("mine", widths=len), known)
    assert (own.family, own.widths, own.signature, own.mult_adds, own.traits) == (
        "mine",
        len,
        known.signature,
        known.mult_adds,
        known.traits,
    )
    assert own.pack is None  # another walk of widths needs another packing
    assert complete(Rule("mine", traits="layer", signature="input, weight, groups"), known).signature.names != known.signature.names
    pointwise = complete(Rule("mine", traits="pointwise"))
    assert (pointwise.widths, pointwise.pack) == (RULES["add"].widths, RULES["add"].pack)
    half = complete(Rule("mine", widths=len, traits="pointwise"))
    assert (half.widths, half.pack) == (len, None)


def test_a_users_row_is_found_by_every_name_and_changes_no_other_row() -> None:
    rule = Rule("mine", widths=len, pack=len)
    found = merged({torch.relu: rule})
    assert found["relu"].family == found[torch.relu].family == "mine"
    assert {name for name in RULES if found[name] is not RULES[name]} == {"relu"}
    assert merged(None) == RULES


def test_names_of_functions_modules_and_words() -> None:
    assert names_of(nn.Linear) == ["Linear"]
    assert names_of(torch.add) == [torch.add, "add"]
    assert names_of(operator.truediv) == [operator.truediv, "div"]
    assert names_of(torch.ops.aten.add.Tensor) == [torch.ops.aten.add.Tensor, "add"]
    assert names_of("mine::op") == ["mine::op"]
    assert names_of(len) == [len]  # of no library of torch's: its name says nothing


def test_random_operators_are_known_by_function_and_name() -> None:
    rules = merged({torch.relu: Rule("mine", traits="random")})
    found = random_operators(rules)
    assert {"relu", torch.relu, "dropout"} <= set(found)
    assert "add" not in found
