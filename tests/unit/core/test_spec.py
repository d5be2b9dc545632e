from __future__ import annotations

import json
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from packify.core.errors import SpecError
from packify.core.spec import Spec, exact, number, whole_number


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("alpha", value) for value in (0, -1, math.nan, math.inf, "2", None, True, 2j)),
        *(("num_estimators", value) for value in (0, -1, 2.0, "4", None, True)),
        *(("gamma", value) for value in (0, 1.5, None)),
        *(("min_channels_per_group", value) for value in (0, "64")),
        *(("round_to", value) for value in (0, 0.5)),
        ("gamma_policy", "own"),
        ("unused", "sometimes"),
        *(("constants", value) for value in ("never", {"a": "never"}, {"a": math.nan}, {3: "keep"}, [("a", "keep", 3)], 3)),
    ],
)
def test_values_that_no_packed_network_can_have(name: str, value: Any) -> None:
    with pytest.raises(SpecError) as caught:
        Spec(**{"alpha": 2, "num_estimators": 4, name: value})
    assert name in caught.value.where
    assert name in caught.value.fix


def test_numbers_of_other_libraries() -> None:
    spec = Spec(np.float32(1.5), np.int64(3), np.uint8(2))
    assert (spec.alpha, spec.num_estimators, spec.gamma) == (1.5, 3, 2)
    assert json.loads(json.dumps(spec.to_dict()))["alpha"] == 1.5


@pytest.mark.parametrize(
    ("alpha", "members", "ratio"), [(2, 4, "1/2"), (1.5, 3, "1/2"), (0.1, 1, "1/10"), (2 / 3, 2, "1/3"), (0.7, 7, "1/10")]
)
def test_the_ratio_is_what_was_meant(alpha: float, members: int, ratio: str) -> None:
    assert Spec(alpha, members).ratio == Fraction(ratio)


@given(st.fractions(min_value=Fraction(1, 1000), max_value=100, max_denominator=1000))
def test_a_fraction_survives_being_a_number(fraction: Fraction) -> None:
    assert exact(number(fraction)) == fraction


@given(st.fractions(min_value=Fraction(1, 8), max_value=8, max_denominator=64), st.integers(1, 16), st.integers(1, 16))
def test_members_keep_their_width_in_larger_ensembles(alpha: Fraction, members: int, others: int) -> None:
    spec = Spec(number(alpha), members, 2, "uniform")
    more = spec.with_members(others)
    assert more.ratio == spec.ratio
    assert more.of_one_member() == spec.of_one_member()
    assert (more.num_estimators, more.gamma) == (others, 2)


def test_what_decides_a_member() -> None:
    assert Spec(2, 4, 1, "paper", 64).of_one_member() == Spec(1, 2, 1, "uniform", 1).of_one_member()
    assert Spec(2, 4, 2, "paper").of_one_member() != Spec(2, 4, 2, "uniform").of_one_member()


@pytest.mark.parametrize(
    "spec", [Spec(2, 4), Spec(1.5, 3, 2, "uniform", 8, 4), Spec(2, 2, constants={"b": "keep", "a": 3}, unused="keep"), Spec(2.0, 1)]
)
def test_a_spec_survives_json(spec: Spec) -> None:
    assert Spec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert hash(spec) == hash(Spec.from_dict(spec.to_dict()))


@pytest.mark.parametrize("values", [None, [], {}, {"alpha": 2}, {"alpha": 2, "num_estimators": 4, "beta": 1}])
def test_what_is_no_spec(values: object) -> None:
    with pytest.raises(SpecError, match="a spec has the fields alpha, "):
        Spec.from_dict(values)


def test_labels() -> None:
    assert [Spec(2, 4, 2).label, Spec(1.5, 3).label, Spec(2.0, 1).label] == ["a2-M4-g2", "a1.5-M3-g1", "a2-M1-g1"]


@pytest.mark.parametrize("value", [True, 1.0, "1", None, 0, 2**40])
def test_whole_numbers(value: Any) -> None:
    with pytest.raises(SpecError, match="whole number of at least 1"):
        whole_number("batch", value, 1, 2**32)
    assert whole_number("batch", np.int16(3), 1, 2**32) == 3
