"""Nested values as flat leaves and back."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

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
    ("empty", (), [], []),
    ("none", (None, 1), [None, 1], ["0", "1"]),
]


@pytest.mark.parametrize(("value", "leaves", "paths"), [case[1:] for case in _VALUES], ids=[case[0] for case in _VALUES])
def test_round_trip(value: Any, leaves: list[Any], paths: list[str]) -> None:
    found, template = nested.flatten(value)
    assert found == leaves
    assert nested.paths(template) == paths
    again = nested.unflatten(template, found)
    assert again == value
    assert type(again) is type(value)


def test_leaves_can_be_exchanged() -> None:
    _, template = nested.flatten({"a": Pair(1, 2)})
    assert nested.unflatten(template, ["x", "y"]) == {"a": Pair("x", "y")}
