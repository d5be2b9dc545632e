from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import packify
import packify.execution.tuning_parts as tuning_parts
from packify.execution.measuring import Timing
from packify.execution.tuning_parts import faster_in_turn, parts_to_try
from tests.unit.execution.test_mixing import _packed, _x


def test_the_outermost_parts_with_weights_are_tried() -> None:
    assert parts_to_try(_packed()) == ["stem", "stages.0", "stages.1", "stages.2", "head"]
    inner = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    assert parts_to_try(packify.pack(nn.Sequential(inner), torch.randn(2, 4), alpha=2, num_estimators=2)) == ["0.0", "0.2"]


@pytest.mark.parametrize("train", [False, True])
def test_parts_that_are_alike_are_timed_once(train: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = _packed().train(train)
    packed.strategy = "grouped"
    timed: list[str] = []

    def timings(functions: Any, **_: Any) -> Any:
        for function in functions.values():
            function()
        timed.extend(functions)
        return {name: Timing([0.5 if "stages.0, in turn" in name else 1.0] * 3) for name in functions}

    monkeypatch.setattr(tuning_parts, "measure_by_turns", timings)
    device = torch.device("cpu")
    call = (lambda: packed(_x()).sum().backward()) if train else (lambda: packed(_x()))
    assert faster_in_turn(packed, call, train=train, device=device, budget_s=1, progress=None) == ["stages.0", "stages.1", "stages.2"]
    assert len(timed) == 6
    assert not any(module._forward_pre_hooks for module in packed.modules())
