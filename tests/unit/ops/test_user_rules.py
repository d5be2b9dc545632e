"""Users' rules that fail, or return what no rule may return, are named."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from packify.core.errors import PackError, SpecError
from packify.nn.members import FRONT
from packify.ops.rule import Rule
from packify.ops.user_rules import name_of, wrap_user_rules
from packify.packing.builder import PackBuilder, PackedValue
from packify.widths.dims import fixed
from tests.unit.ops.single import dims_of, single


def _wrapped(**parts: Any) -> Rule:
    rule: Rule = wrap_user_rules({"mine": Rule("own", **parts)})["mine"]
    return rule


def _of(result: Any) -> Any:
    return lambda *args, **kwargs: result


_CALL = single(torch.relu, torch.ones(2, 3))
_PAIR = single(torch.max, torch.ones(2, 3), 1)
_DIM = fixed(2)


def _walk(call: Any) -> Any:
    walk, _ = dims_of(call)
    walk.node = call.node
    return walk


@pytest.mark.parametrize("result", [[_DIM, _DIM], (_DIM, _DIM)])
def test_dims_of_every_axis_are_taken(result: Any) -> None:
    assert _wrapped(widths=_of(result)).widths(_walk(_CALL)) is result
    pair = ([_DIM], [_DIM])
    assert _wrapped(widths=_of(pair)).widths(_walk(_PAIR)) is pair


@pytest.mark.parametrize("result", [None, [_DIM], [_DIM, 3], [_DIM] * 3, {"a": _DIM}, _DIM])
def test_other_dims_are_refused(result: Any) -> None:
    with pytest.raises(PackError, match=r"rules\['mine'\]\.widths") as caught:
        _wrapped(widths=_of(result)).widths(_walk(_CALL))
    assert "one Dim per axis" in caught.value.why
    with pytest.raises(PackError):
        _wrapped(widths=_of([_DIM])).widths(_walk(_PAIR))


def test_packed_values_on_an_axis_that_there_is() -> None:
    builder = PackBuilder(2, _CALL.root)
    node = builder.graph.placeholder("x")
    for axis in (None, FRONT, 0, 1):
        value = PackedValue(node, axis, torch.ones(2, 3))
        assert _wrapped(pack=_of(value)).pack(builder, _CALL.node) is value
    for wrong in (node, None, PackedValue(node, 2, torch.ones(2, 3)), [PackedValue(node, 0, torch.ones(2, 3))]):
        with pytest.raises(PackError, match="a PackedValue on an axis"):
            _wrapped(pack=_of(wrong)).pack(builder, _CALL.node)


@pytest.mark.parametrize(
    ("part", "right", "wrong"), [("refit", [{}, {"shape": 3}], [None, [], {3: 4}]), ("mult_adds", [0, 12], [None, -1, 1.5, True])]
)
def test_changes_and_counts(part: str, right: list[Any], wrong: list[Any]) -> None:
    for result in right:
        assert getattr(_wrapped(**{part: _of(result)}), part)(None) == result
    for result in wrong:
        with pytest.raises(PackError, match="it returned"):
            getattr(_wrapped(**{part: _of(result)}), part)(None)


def test_what_a_rule_raises_is_told_with_its_name_and_errors_of_packifys_own_go_through() -> None:
    def fails(*args: Any) -> None:
        raise IndexError("no axis 5")

    def refuses(*args: Any) -> None:
        raise SpecError("here", found="a", why="b", fix="c")

    with pytest.raises(PackError, match="IndexError: no axis 5"):
        _wrapped(widths=fails).widths(_walk(_CALL))
    with pytest.raises(SpecError, match="here"):
        _wrapped(widths=refuses).widths(_walk(_CALL))


def test_parts_that_a_rule_leaves_out_stay_out_and_what_is_no_rule_is_left_to_others() -> None:
    assert _wrapped().widths is None
    assert wrap_user_rules({"a": 3}) == {"a": 3}
    assert wrap_user_rules(None) is None
    assert name_of("relu") == "rules['relu']"
    assert name_of(torch.relu, "packify.rules") == "packify.rules[relu]"
