from __future__ import annotations

import dataclasses

import pytest

from packify.sources.registry import Wanted


def test_nothing_is_wanted_unless_it_is_said() -> None:
    assert dataclasses.asdict(Wanted()) == {"num_classes": None, "in_chans": None, "input_size": None}
    with pytest.raises(dataclasses.FrozenInstanceError):
        Wanted().num_classes = 3  # type: ignore[misc]
