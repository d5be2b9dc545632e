"""Outputs that are kept, free or dropped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import packify


class Trunk(nn.Module):
    """Features of two stages, and logits."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Linear(8, width), nn.Linear(width, width), nn.Linear(width, 5)

    def forward(self, x: Tensor) -> dict[str, Any]:
        first = torch.relu(self.stem(x))
        second = first + torch.relu(self.block(first))
        return {"features": [first, second], "logits": self.head(second)}


X = torch.randn(6, 8)


def _pack(outputs: Any) -> packify.PackedNetwork:
    return packify.pack(Trunk(), X, alpha=2, num_estimators=4, outputs=outputs)


def test_kept_outputs_pin_the_trunk_and_free_ones_do_not() -> None:
    kept, free = _pack(None), _pack({"features": "free"})
    assert kept.report.member_params == sum(p.numel() for p in Trunk().parameters())
    assert free.report.member_params == sum(p.numel() for p in Trunk(16).parameters())


def test_free_outputs_are_never_averaged() -> None:
    packed = _pack({"features.0": "free", "features.1": "drop"}).eval()
    first, second = packed(X)["features"]
    assert first.shape == (4, 6, 16)
    assert second is None
    torch.testing.assert_close(first, packed.members(X)["features"][0])
    assert packed.train()(X)["features"][0].shape == (24, 16)
    assert packed.average == {"features.0": "none", "features.1": "mean", "logits": "probs"}


@pytest.mark.parametrize("outputs", [{"features": "free"}, {"features": "drop"}, {"features": "free", "features.1": "drop"}])
def test_laws_and_round_trip(outputs: dict[str, str], tmp_path: Path) -> None:
    packed = _pack(outputs).eval()
    packify.verify(packed)
    loaded = packify.load(packify.save(packed, tmp_path / "artefact"), model=Trunk())
    torch.testing.assert_close(loaded(X), packed(X), rtol=0, atol=0)
    torch.testing.assert_close(packed.extract(1)(X)["logits"], packed.members(X)["logits"][1])
    budget = packify.budget(Trunk(), X, alpha=2, num_estimators=4, outputs=outputs)
    assert budget.packed.params == sum(p.numel() for p in packed.parameters())


def test_dropped_outputs_of_trained_networks_are_not_compared() -> None:
    packed = packify.pack_members([Trunk(), Trunk()], X, outputs={"features": "drop"}).eval()
    assert packed(X)["features"] == [None, None]


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"feature": "free"}, "the path 'feature'"),
        ({"logits": "loose"}, "one of keep, free, drop"),
        ({"": "drop"}, "the path ''"),
        (3, "chosen by their paths"),
        ({"features": "drop", "logits": "drop"}, "every tensor dropped"),
    ],
)
def test_wrong_choices(outputs: Any, message: str) -> None:
    with pytest.raises(packify.SpecError, match=message):
        _pack(outputs)


def test_the_report_suggests_a_way_out_where_an_output_pins_a_trunk() -> None:
    notes = [str(note) for note in _pack(None).report.notes]
    assert any("""outputs={'features.0': "free"}""" in note for note in notes)
    assert not any("logits" in note for note in notes)
