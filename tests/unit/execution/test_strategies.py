from __future__ import annotations

import pytest
import torch

import packify
from packify.execution.strategies import STRATEGIES, require_device, require_known
from tests.unit.execution.networks import packed_convs


@pytest.mark.parametrize("name", ["fast", "", None, 3, ["in turn"]])
def test_an_unknown_strategy_is_refused(name: object) -> None:
    packed = packed_convs()
    with pytest.raises(packify.SpecError, match="in turn"):
        packed.strategy = name  # type: ignore[assignment]
    assert packed.strategy == "auto"


def test_every_strategy_says_what_it_does() -> None:
    assert all(strategy.summary for strategy in STRATEGIES.values())
    assert all(require_known(name) == name for name in (*STRATEGIES, "auto"))


def test_a_strategy_needs_its_device() -> None:
    require_device("threads", torch.device("cpu"))
    with pytest.raises(packify.SpecError, match="cpu device"):
        require_device("threads", torch.device("cuda"))
