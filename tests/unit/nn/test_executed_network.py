"""A network asks its executor how it is to be run; one without an executor runs its own modules."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import packify
from tests.unit.execution.networks import image, packed_convs


class _Counting:
    """An executor that lets the modules run, and counts what it is told."""

    strategy = "auto"

    def __init__(self) -> None:
        self.told: list[str] = []

    def run(self, *_: Any) -> None:
        self.told.append("run")

    def release(self) -> None:
        self.told.append("release")

    def forget(self) -> None:
        self.told.append("forget")


def test_the_executor_is_asked_and_told_of_changes() -> None:
    packed, x = packed_convs().eval(), image()
    expected = packed(x)
    executor = vars(packed)["executor"] = _Counting()
    assert torch.equal(packed(x), expected)
    packed.double()
    packed.recompile()
    assert executor.told == ["run", "release", "forget"]


def test_a_network_without_an_executor_runs_its_modules() -> None:
    packed, x = packed_convs().eval(), image()
    packed.strategy = "grouped"
    expected = packed(x)
    vars(packed)["executor"] = None
    assert packed.strategy == "grouped"
    assert torch.equal(packed(x), expected)
    for call in (packed.turns, packed.fuse, lambda: packed.tune(x)):
        with pytest.raises(packify.PackError, match="without an executor"):
            call()
    with pytest.raises(packify.PackError, match="without an executor"):
        packed.strategy = "in turn"


@pytest.mark.slow
def test_a_fused_network_is_not_trained() -> None:
    fused = packed_convs().eval().fuse()
    with pytest.raises(packify.PackError, match="a fused network"):
        fused.train()
    assert not fused.eval().training


def test_a_part_of_the_reference_may_be_called_strategy() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.strategy = nn.Linear(3, 8)
            self.head = nn.Linear(8, 2)

        def forward(self, x: Any) -> Any:
            return self.head(self.strategy(x))

    packed = packify.pack(Net(), torch.randn(2, 3), alpha=2, num_estimators=2).eval()
    assert packed(torch.randn(4, 3)).shape == (4, 2)
    assert packed.get_submodule("strategy").weight.shape == (16, 3)
