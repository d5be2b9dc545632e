"""The calls of modules: their arguments described, and what is left of them when nodes are gone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from packify.capture.calls import Made, ModuleCall, Ref, Unwritten, described, literal, parameter_names, refs, settle


@dataclass
class _Output:
    logits: Any
    rest: Any = None
    computed: int = field(default=0, init=False)


def test_values_are_described_leaf_by_leaf_also_in_objects_of_users() -> None:
    found = described((_Output(Ref("a"), [1]), {"b": 2}), lambda leaf: leaf if isinstance(leaf, Ref) else leaf + 1)
    assert found == (Made(_Output, {"logits": Ref("a"), "rest": [2]}), {"b": 3})
    assert list(refs((found, Ref("c")))) == [Ref("a"), Ref("c")]
    again = described(found, lambda leaf: leaf, lambda kind, fields: kind(**fields))
    assert again[0] == _Output(Ref("a"), [2])


def test_what_code_can_write_is_a_literal() -> None:
    for value in (None, True, 3, 0.5, 1j, "x", torch.float16, torch.device("cpu")):
        assert literal(value) == value
    for value in (object(), torch.zeros(1), nn.ReLU(), len):
        assert isinstance(literal(value), Unwritten)


class _Several(nn.Module):
    def forward(self, first: Any, *rest: Any, last: Any = None) -> Any:
        return first


class _Plain(nn.Module):
    def forward(self, x: Any, mask: Any = None, **more: Any) -> Any:
        return x


def test_the_names_of_positional_arguments() -> None:
    assert parameter_names(_Plain(), (1,)) == ("x",)
    assert parameter_names(_Plain(), (1, 2)) == ("x", "mask")
    assert parameter_names(_Several(), (1, 2, 3)) == ("first", "rest_0", "rest_1")
    assert parameter_names(nn.Sequential(), ()) == ()
    assert parameter_names(_Plain(), (1, 2, 3)) == ("x", "mask", "input_2")


def test_calls_start_and_end_at_nodes_that_are_left() -> None:
    graph = fx.Graph()
    for name in ("a", "d"):
        graph.placeholder(name)
    call = ModuleCall((("part", 0),), after="b", args=(Ref("a"), Ref("b")), kwargs={"m": Ref("c")}, names=("x",), result=Ref("d"), last="e")
    first = ModuleCall((("other", 0),), after="", args=(), kwargs={}, names=(), last="")
    settle([call, first], "abcde", graph)
    assert (call.after, call.last) == ("a", "d")
    assert call.args == (Ref("a"), Unwritten())
    assert call.kwargs == {"m": Unwritten()}
    assert call.result == Ref("d")
    assert (first.after, first.last) == ("", "")
    assert call.path == "part"
