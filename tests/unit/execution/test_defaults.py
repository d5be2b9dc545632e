from __future__ import annotations

import pytest
import torch

import packify
from packify.execution.defaults import MEASURED, Measured, default_for_shapes, default_strategy
from tests.unit.execution.networks import image, packed_convs

CPU = torch.device("cpu")


@pytest.mark.parametrize("row", MEASURED, ids=lambda row: f"{row.network} {row.shape}")
def test_the_default_is_never_much_slower_than_members_in_turn(row: Measured) -> None:
    name = default_for_shapes(CPU, [row.shape])
    for last in ("", "_cl"):
        for index in range(2):
            chosen = getattr(row, name.replace(" ", "_") + last)[index]
            assert chosen <= 1.05 * getattr(row, f"in_turn{last}")[index]


def test_small_calls_are_grouped_and_large_ones_are_not() -> None:
    assert default_strategy(CPU, [image(1)]) == "grouped"
    assert default_strategy(CPU, [image(64, 32)]) == "in turn"
    assert default_strategy(CPU, [torch.zeros(8, 512, 16)]) == "in turn"
    assert default_strategy(CPU, [torch.zeros(8, 4096)]) == "grouped"
    assert default_strategy(CPU, []) == "grouped"
    assert default_strategy(torch.device("cuda"), [torch.zeros(64, 3, 224, 224, device="meta")]) == "grouped"


def test_the_default_is_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    packed: packify.PackedNetwork = packed_convs().eval()
    packed(image(1))
    assert packed.executor._plans is None  # type: ignore[union-attr]
    with torch.no_grad():
        packed(image(64, 32))
    assert packed.executor._plans is not None  # type: ignore[union-attr]
