"""The table as facts to print."""

from __future__ import annotations

import torch

from packify.ops.listing import Listed, listed
from packify.ops.rule import Rule
from packify.ops.table import RULES


def test_families_keep_the_tables_order_and_names_are_sorted_in_each() -> None:
    rules = {"zeta": Rule("b"), "Alpha": Rule("b"), "beta": Rule("a"), torch.relu: Rule("b")}
    assert [(row.family, row.name) for row in listed(rules)] == [("b", "Alpha"), ("b", "relu"), ("b", "zeta"), ("a", "beta")]
    assert len(listed(RULES)) == len(RULES)


def test_a_row_says_what_it_has() -> None:
    (row,) = listed({"mine": Rule("own", widths=len, mult_adds=len, signature="x, *, y=1", traits={"random", "hands_on"})})
    assert row == Listed("own", "mine", "x, *, y=1", ("widths", "mult_adds"), ("hands_on", "random"))
    assert row.as_dict() == {
        "family": "own",
        "name": "mine",
        "signature": "x, *, y=1",
        "has": ["widths", "mult_adds"],
        "traits": ["hands_on", "random"],
    }


def test_arguments_that_a_row_does_not_declare_are_torchs_longest() -> None:
    rows = {row.name: row.signature for row in listed({name: Rule("a") for name in ("lerp", "softplus", "no_such_operator", "Tensor")})}
    assert rows["lerp"].startswith("input, end, weight")
    assert "beta" in rows["softplus"]
    assert rows["no_such_operator"] == rows["Tensor"] == ""
