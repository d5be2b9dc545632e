from __future__ import annotations

import copy
import pickle

import pytest

from packify.core import errors
from packify.core.errors import BudgetError, PackifyError, SpecError

_KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PackifyError)]


@pytest.mark.parametrize("kind", _KINDS)
def test_four_parts_in_four_lines(kind: type[PackifyError]) -> None:
    error = kind("layer1.conv", found="a", why="b", fix="c")
    assert str(error) == "layer1.conv\n  found: a\n  why: b\n  what to do: c"
    assert (error.where, error.found, error.why, error.fix) == ("layer1.conv", "a", "b", "c")


def test_empty_parts_are_left_out() -> None:
    assert str(PackifyError("there", fix="go")) == "there\n  what to do: go"


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_errors_survive_a_process(again: object) -> None:
    copied = again(SpecError("alpha", found="0", why="w", fix="f"))  # type: ignore[operator]
    assert type(copied) is SpecError
    assert str(copied) == "alpha\n  found: 0\n  why: w\n  what to do: f"


def test_wrong_values_are_value_errors() -> None:
    assert issubclass(SpecError, ValueError)
    assert issubclass(BudgetError, ValueError)
