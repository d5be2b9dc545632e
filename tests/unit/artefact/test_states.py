"""Frozen parameters and modes of single modules are part of an artefact."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import packify
from packify.artefact.states import freeze_only, frozen_parameters, in_other_mode, set_modes


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(x).mean((2, 3)))


_X = torch.randn(2, 3, 8, 8)
_FROZEN = ["backbone.0.bias", "backbone.0.weight", "backbone.1.bias", "backbone.1.weight"]
_STILL = ["backbone", "backbone.0", "backbone.1", "backbone.2", "backbone.3"]


def _frozen() -> packify.PackedNetwork:
    packed = packify.pack(_Net(), _X, alpha=2, num_estimators=2).train()
    packed.backbone.eval().requires_grad_(False)
    return packed


def test_a_frozen_backbone_comes_back_frozen(tmp_path: Path) -> None:
    packed = _frozen()
    assert frozen_parameters(packed) == _FROZEN
    assert in_other_mode(packed) == _STILL
    loaded = packify.load(packify.save(packed, tmp_path / "net"), _Net())
    assert loaded.training
    assert frozen_parameters(loaded) == _FROZEN
    assert in_other_mode(loaded) == _STILL
    assert torch.equal(loaded(_X), packed(_X))


def test_a_member_is_frozen_where_the_packed_network_is(tmp_path: Path) -> None:
    packed = _frozen()
    assert frozen_parameters(packed.extract(1)) == _FROZEN
    loaded = packify.load(packify.save_member(packed, 1, tmp_path / "one"), _Net())
    assert frozen_parameters(loaded) == _FROZEN
    assert in_other_mode(loaded) == _STILL


def test_states_are_put_back() -> None:
    net = _Net()
    assert freeze_only(net, ["head.weight"]) == ""
    assert frozen_parameters(net) == ["head.weight"]
    assert freeze_only(net, []) == ""
    assert frozen_parameters(net) == []
    assert set_modes(net, False, ["head"]) == ""
    assert in_other_mode(net) == ["head"]
    assert freeze_only(net, ["nothing"]) == "nothing"
    assert set_modes(net, True, ["nothing"]) == "nothing"


def test_names_that_the_network_does_not_have_are_refused(tmp_path: Path) -> None:
    folder = packify.save(_frozen(), tmp_path / "net")
    config = folder / "config.json"
    values = json.loads(config.read_text())
    for field in ("other_mode", "frozen"):
        config.write_text(json.dumps(values | {field: ["nothing"]}))
        with pytest.raises(packify.ArtefactError, match="nothing"):
            packify.load(folder, _Net())
        config.write_text(json.dumps(values | {field: "all"}))
        with pytest.raises(packify.ArtefactError, match=field):
            packify.load(folder, _Net())


def test_an_older_format_takes_them_from_the_reference(tmp_path: Path) -> None:
    folder = packify.save(_frozen(), tmp_path / "net")
    config = folder / "config.json"
    values = json.loads(config.read_text())
    del values["other_mode"], values["frozen"]
    config.write_text(json.dumps(values | {"format": 2}))
    model = _Net()
    model.head.requires_grad_(False)
    loaded = packify.load(folder, model)
    assert frozen_parameters(loaded) == ["head.bias", "head.weight"]
    assert in_other_mode(loaded) == []
