"""Numbers that know where they came from, and are ordinary numbers to everybody else."""

from __future__ import annotations

import math
import operator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx

from packify.capture.symbolic import SymbolicFloat, SymbolicInt, SymbolicNumber, followed, plain, symbolic_number


class _Recorder:
    """Emits nodes, and can be asked to stop."""

    def __init__(self) -> None:
        self.active, self.graph = True, fx.Graph()
        self.tensor = self.graph.placeholder("x")

    def emit(self, target: Any, args: tuple[Any, ...], value: Any) -> fx.Node:
        held = tuple(item.node() if isinstance(item, SymbolicNumber) else item for item in args)
        return self.graph.call_method(target, held) if isinstance(target, str) else self.graph.call_function(target, held)

    def size(self, value: int, axis: int = 1) -> Any:
        return symbolic_number(value, self, "size", (self.tensor, axis))


_STEPS = (operator.add, operator.sub, operator.mul, operator.floordiv, operator.truediv, operator.mod)


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(_STEPS), st.integers(1, 9), st.booleans()), min_size=1, max_size=5), st.integers(1, 30))
def test_a_number_is_what_its_expression_comes_to(steps: list[tuple[Any, int, bool]], start: int) -> None:
    recorder = _Recorder()
    number, wanted = recorder.size(start), start
    try:
        for function, operand, reverse in steps:
            wanted = function(operand, wanted) if reverse else function(wanted, operand)
            number = function(operand, number) if reverse else function(number, operand)
    except ZeroDivisionError:
        return
    assert number == wanted
    assert type(plain(number)) is type(wanted)
    assert isinstance(number, SymbolicInt if isinstance(wanted, int) else SymbolicFloat)
    node = number.node()
    assert number.node() is node  # made once
    values: dict[fx.Node, Any] = {}
    for one in recorder.graph.nodes:
        args = fx.node.map_arg(one.args, values.get)
        values[one] = None if one.op == "placeholder" else start if one.op == "call_method" else one.target(*args)
    assert values[node] == wanted


def test_nothing_is_written_for_numbers_that_no_operator_uses() -> None:
    recorder = _Recorder()
    assert recorder.size(6) * 2 // 3 == 4
    assert len(recorder.graph.nodes) == 1


def test_comparisons_and_functions_of_python_give_ordinary_values() -> None:
    size = _Recorder().size(6)
    assert type(size == 6) is bool
    assert (size > 5, size == 6, [0] * size, range(size)[-1], f"{size}") == (True, True, [0] * 6, 5, "6")
    assert type(int(size)) is int
    assert type(-size) is SymbolicInt
    assert type(math.ceil(size / 4)) is SymbolicInt
    assert round(size / 4) == 2
    with pytest.raises(TypeError):
        size + "a"
    assert symbolic_number(True, _Recorder(), "size", ()) is True
    assert plain("word") == "word"


def test_after_the_recording_numbers_are_ordinary() -> None:
    recorder = _Recorder()
    size = recorder.size(6)
    recorder.active = False
    assert type(size * 2) is int
    assert type(-size) is int
    assert {size: 1}[6] == 1


def test_the_size_of_a_leading_axis_is_no_key_of_a_cache() -> None:
    recorder = _Recorder()
    for leading in (recorder.size(6, axis=0), recorder.size(6, axis=0) * 2):
        with pytest.raises(TypeError, match="leading axis"):
            hash(leading)
    assert hash(recorder.size(6)) == hash(6)


def test_functions_of_numbers_are_followed() -> None:
    recorder = _Recorder()
    root = followed(math.sqrt)
    found = root(recorder.size(9))
    assert (found, type(found)) == (3.0, SymbolicFloat)
    assert found.node().target is math.sqrt
    assert type(root(9)) is float
    assert followed(math.sqrt, lambda value: "original")(9) == "original"
    recorder.active = False
    assert type(root(recorder.size(9))) is float
