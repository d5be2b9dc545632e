"""Laws 12 and 15 on the lightest architecture of every family of timm and torchvision."""

from __future__ import annotations

import re

import pytest

from tests.zoo import numeric, signals
from tests.zoo.architectures import architectures
from tests.zoo.outcome import Outcome, read

_KNOWN = {one.label for one in architectures()}
_FAMILIES = numeric.representatives(row for row in read().values() if row.label in _KNOWN)
# Layers outside the law, by architecture: a pattern of their names, and why.
EXCEPTIONS: dict[str, tuple[str, str]] = {}


@pytest.mark.families
@pytest.mark.parametrize("row", _FAMILIES, ids=lambda row: row.label)
def test_members_of_a_family(row: Outcome) -> None:
    found = signals.drawn(row.architecture)
    assert found.torn == []
    pattern, _ = EXCEPTIONS.get(row.label, ("(?!)", ""))
    left = {place: ratio for place, ratio in signals.outside(row.architecture, found).items() if not re.match(pattern, place[1])}
    assert not left, "\n".join(f"{spec} {name}: {ratio:.3f}" for (spec, name, _), ratio in left.items())
