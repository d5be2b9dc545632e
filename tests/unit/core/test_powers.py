"""Which numbers are powers of a size, judged over all that one line computed."""

from __future__ import annotations

import math

import pytest

from packify.core.powers import PowerLaw, power_laws


@pytest.mark.parametrize(
    ("values", "sizes", "wanted"),
    [
        ([0.125], [{"head": 64}], [PowerLaw("head", -0.5, 1.0)]),
        ([0.3], [{"head": 64}], [None]),
        ([0.5], [{"head": 4}], [None]),  # a number that people write
        ([0.125, 0.125], [{"head": 64}, {"head": 32}], [None, None]),  # the same for another size: no law of it
        ([0.2, 0.2, 0.2], [{"fan": 8}, {"fan": 16}, {"fan": 32}], [None] * 3),
        ([1.7 * 8**-0.5, 1.7 * 32**-0.5], [{"fan": 8}, {"fan": 32}], [PowerLaw("fan", -0.5, 1.7)] * 2),
        ([1.7 * 8**-0.5, 1.2 * 32**-0.5], [{"fan": 8}, {"fan": 32}], [None, None]),
        ([], [], []),
        ([0.0, math.inf], [{"fan": 8}, {"fan": 8}], [None, None]),
    ],
)
def test_power_laws(values: list[float], sizes: list[dict[str, float]], wanted: list[PowerLaw | None]) -> None:
    found = power_laws(values, sizes, (-0.5, -1.0))
    assert len(found) == len(wanted)
    for law, other in zip(found, wanted, strict=True):
        assert (law is None) == (other is None)
        if law is not None and other is not None:
            assert (law.role, law.exponent) == (other.role, other.exponent)
            assert math.isclose(law.gain, other.gain, rel_tol=1e-5)


def test_a_number_that_is_a_likelier_power_of_another_size_is_not_taken_for_this_one() -> None:
    """A half is 16 ** -0.25, but where there are heads of 4 it is 4 ** -0.5."""
    sizes = {"the size of a head": 4.0, "the width of the stream": 16.0}
    assert power_laws([0.5], [sizes], (-0.5, -0.25)) == [None]
    (law,) = power_laws([0.5], [{"the width of the stream": 16.0}], (-0.5, -0.25))
    assert law is not None
    assert law.exponent == -0.25


def test_one_gain_explains_numbers_at_several_sizes_and_others_are_judged_again() -> None:
    sizes = [{"fan": 8.0}, {"fan": 32.0}, {"fan": 128.0}, {"fan": 8.0}]
    values = [3 * 8**-0.5, 3 * 32**-0.5, -3 * 128**-0.5, 0.7]
    laws = power_laws(values, sizes, (-0.5, -1.0))
    assert [law and (law.role, law.exponent) for law in laws] == [("fan", -0.5)] * 3 + [None]


def test_gains_that_people_write_need_one_number_only() -> None:
    value = math.sqrt(2 / 90)
    assert power_laws([value], [{"fan": 90.0}], (-0.5,)) == [None]
    (law,) = power_laws([value], [{"fan": 90.0}], (-0.5,), (1.0, math.sqrt(2)))
    assert str(law) == "1.414 * fan ** -0.5"
    assert str(PowerLaw("fan", -1.0, 1.0)) == "fan ** -1"


def test_the_likeliest_role_of_equal_sizes_is_named() -> None:
    (law,) = power_laws([90**-0.5], [{"inputs": 90.0, "outputs": 90.0}], (-0.5,))
    assert law is not None
    assert law.role == "inputs"
    assert power_laws([90**-0.5], [{}], (-0.5,)) == [None]
    assert power_laws([90**-0.5], [{"empty": 0.0}], (-0.5,)) == [None]
