"""Hooks fire on packed networks as on the reference: a sample of the families; ``python -m tests.zoo --calls`` counts all of them."""

from __future__ import annotations

import pytest

from tests.zoo import calls
from tests.zoo.architectures import Architecture


@pytest.mark.slow
@pytest.mark.quick_cases(1)
@pytest.mark.parametrize("one", calls.families()[::5], ids=lambda one: one.label)
def test_modules_are_called_as_often_and_in_the_order_of_the_reference(one: Architecture) -> None:
    assert calls.difference(one) == ""
