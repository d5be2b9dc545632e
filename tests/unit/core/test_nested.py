"""Nested values as flat leaves and back."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch.fx.immutable_collections import immutable_dict, immutable_list

from packify.core import nested


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass
class Record:
    one: Any
    two: Any = None


_VALUES = [
    ("bare", 1, [1], [""]),
    ("tuple", (1, 2), [1, 2], ["0", "1"]),
    ("list", [1, [2]], [1, 2], ["0", "1.0"]),
    ("dict", {"a": 1, "b": (2,)}, [1, 2], ["a", "b.0"]),
    ("ordered", OrderedDict(b=1, a=2), [1, 2], ["b", "a"]),
    ("named tuple", Pair(1, [2]), [1, 2], ["left", "right.0"]),
    ("dataclass", Record(1, {"x": 2}), [1, 2], ["one", "two.x"]),
    ("slice", slice(1, None, 2), [1, None, 2], ["start", "stop", "step"]),
    ("default dict", defaultdict(list, a=[1]), [1], ["a.0"]),
    ("return type", torch.return_types.max((1, 2)), [1, 2], ["0", "1"]),
    ("everything", (Pair([1], {"x": slice(2, 3)}), Record(4)), [1, 2, 3, None, 4, None], None),
    ("empty", (), [], []),
    ("none", (None, 1), [None, 1], ["0", "1"]),
]


@pytest.mark.parametrize(("value", "leaves", "paths"), [case[1:] for case in _VALUES], ids=[case[0] for case in _VALUES])
def test_round_trip(value: Any, leaves: list[Any], paths: list[str] | None) -> None:
    found, template = nested.flatten(value)
    assert found == leaves
    assert len(nested.paths(template)) == len(leaves)
    assert paths is None or nested.paths(template) == paths
    again = nested.unflatten(template, found)
    assert again == value
    assert type(again) is type(value)


def test_leaves_can_be_exchanged() -> None:
    _, template = nested.flatten({"a": Pair(1, 2)})
    assert nested.unflatten(template, ["x", "y"]) == {"a": Pair("x", "y")}


def test_arguments_of_a_call_have_no_structure_inside_dataclasses() -> None:
    record = Record(1, [2])
    assert list(nested.leaves((record, [3, slice(4, 5)]))) == [record, 3, 4, 5, None]
    assert list(nested.leaves(record, in_dataclasses=True)) == [1, 2]
    assert nested.map_leaves([record], lambda leaf: leaf) == [record]
    assert nested.map_leaves([record], str, in_dataclasses=True) == [Record("1", ["2"])]


def test_a_nodes_own_arguments_become_plain_containers() -> None:
    mapped = nested.map_leaves(immutable_dict(a=immutable_list([1])), lambda leaf: leaf + 1)
    assert mapped == {"a": [2]}
    assert type(mapped) is dict
    assert type(mapped["a"]) is list


def test_a_mapping_keeps_what_it_does_for_missing_keys() -> None:
    mapped = nested.map_leaves(defaultdict(list, a=1), str)
    assert mapped["b"] == []
