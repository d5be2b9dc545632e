"""A calibration is saved with an artefact, read from it, replaced in it, and belongs to whole ensembles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import packify
from packify import artefact, sources
from packify.artefact import CONFIG_FILE, WEIGHTS_FILE
from packify.core.errors import ArtefactError, DataError
from tests.unit.artefact.artefacts import pack_small, trained


def _data() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(40, 3, 8, 8, generator=generator), torch.randint(5, (40,), generator=generator))]


def _fitted(packed: Any) -> packify.Calibration:
    return packify.Calibration(packify.TemperatureScaling().fit(packed, _data()), packify.ConformalSets("aps", 0.8).fit(packed, _data()))


def test_it_is_saved_with_a_network_and_changes_no_output(conv: sources.Reference, tmp_path: Path) -> None:
    packed = trained(pack_small(conv))
    calibration = _fitted(packed)
    packify.save(packed, tmp_path / "net", source=conv.source, calibration=calibration)
    assert packify.load_calibration(tmp_path / "net") == calibration
    loaded = packify.load(tmp_path / "net", model=conv.model)
    x = _data()[0][0]
    logits = packed(x)
    torch.testing.assert_close(loaded(x), logits)  # mapped weights lie elsewhere in memory: kernels may round otherwise
    again = packify.load_calibration(tmp_path / "net")
    assert again.sets is not None
    assert torch.equal(again.sets(logits), calibration.sets(logits))  # type: ignore[misc]


def test_it_may_come_later(conv: sources.Reference, saved: Path) -> None:
    before = {name: (saved / name).read_bytes() for name in (CONFIG_FILE, WEIGHTS_FILE)}
    assert packify.load_calibration(saved) == packify.Calibration()
    assert "calibration" not in json.loads(before[CONFIG_FILE])
    calibration = _fitted(packify.load(saved, model=conv.model))
    packify.save_calibration(saved, calibration)
    assert packify.load_calibration(saved) == calibration
    assert (saved / WEIGHTS_FILE).read_bytes() == before[WEIGHTS_FILE]
    packify.load(saved, model=conv.model)
    assert sorted(path.name for path in saved.iterdir()) == [CONFIG_FILE, WEIGHTS_FILE]
    assert [path for path in saved.parent.iterdir() if path.name.startswith(".")] == []
    packify.save_calibration(saved, packify.Calibration())
    assert (saved / CONFIG_FILE).read_bytes() == before[CONFIG_FILE]


def test_a_member_alone_has_none(conv: sources.Reference, tmp_path: Path) -> None:
    packed = trained(pack_small(conv))
    artefact.save_member(packed, 0, tmp_path / "one", source=conv.source)
    with pytest.raises(ArtefactError, match="member 0 alone"):
        packify.save_calibration(tmp_path / "one", _fitted(packed))
    with pytest.raises(ArtefactError, match="no such folder"):
        packify.save_calibration(tmp_path / "none", packify.Calibration())


@pytest.mark.parametrize(
    "value",
    [
        None,
        3,
        {"more": {}},
        {"temperature": {"kind": "temperature", "temperature": -1}},
        {"temperature": "2"},
        {"sets": {"kind": "conformal"}},
        {"sets": {**packify.ConformalSets("aps").to_dict()}},
    ],
)
def test_damaged_calibrations_are_one_clear_error(saved: Path, value: Any) -> None:
    values = json.loads((saved / CONFIG_FILE).read_text()) | {"calibration": value}
    (saved / CONFIG_FILE).write_text(json.dumps(values))
    with pytest.raises(ArtefactError, match="calibration") as caught:
        packify.load_calibration(saved)
    assert caught.value.why
    assert caught.value.fix


def test_what_was_not_fitted_is_no_calibration() -> None:
    with pytest.raises(DataError, match="not fitted"):
        packify.Calibration(sets=packify.ConformalSets())
    with pytest.raises(DataError, match="TemperatureScaling"):
        packify.Calibration(2.0)  # type: ignore[arg-type]
