"""The laws with numbers on the lightest families of the zoo; ``python -m tests.zoo --numeric`` checks every family."""

from __future__ import annotations

import pytest

from tests.zoo import numeric
from tests.zoo.outcome import Outcome

_SAMPLE_SIZE = 20
_LIGHTEST = numeric.installed_representatives()


@pytest.mark.slow
@pytest.mark.quick_cases(6)
@pytest.mark.parametrize("row", _LIGHTEST[:_SAMPLE_SIZE], ids=lambda row: row.label)
def test_laws_hold_for_a_small_member_of_the_family(row: Outcome) -> None:
    found = numeric.check(row.architecture)
    assert found.outcome == "holds", f"{found.outcome} on {found.input}: {found.reason}"


@pytest.mark.slow
@pytest.mark.quick_cases(1)
@pytest.mark.parametrize("row", _LIGHTEST[:4], ids=lambda row: row.label)
def test_laws_hold_with_subgroups(row: Outcome) -> None:
    found = numeric.check(row.architecture, gamma=2)
    assert found.outcome == "holds", f"{found.outcome} on {found.input}: {found.reason}"


def test_every_family_was_checked() -> None:
    checked = numeric.read()
    missing = [f"{row.library}:{row.family}" for row in _LIGHTEST if f"{row.library}:{row.family}" not in checked]
    assert missing == [], "run: python -m tests.zoo --numeric --resume"


def test_families_on_which_a_law_does_not_hold_say_why() -> None:
    assert [row.family for row in numeric.read().values() if row.outcome != "holds" and not row.reason] == []
