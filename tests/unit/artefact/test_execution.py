from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import packify
from packify.artefact.config import CONFIG_FILE
from packify.artefact.execution import execution_of, keep_execution
from packify.execution.formats import format_of, to_format
from tests.unit.execution.networks import convs, image, packed_convs


def _saved(packed: packify.PackedNetwork, folder: Path) -> Path:
    return packify.save(packed, folder / "net")


def test_strategy_format_and_choices_come_back(tmp_path: Path) -> None:
    packed = packed_convs().eval()
    packed.tune(image(), budget_s=0.2)
    packed.strategy = "in turn"
    to_format(packed, "contiguous")
    loaded: Any = packify.load(_saved(packed, tmp_path), model=convs())
    assert execution_of(loaded) == execution_of(packed)
    assert (loaded.strategy, format_of(loaded)) == ("in turn", "contiguous")
    assert loaded.executor.choices == packed.executor.choices  # type: ignore[union-attr]
    with torch.no_grad():
        assert torch.equal(loaded(image()), packed(image()))


def test_a_loaded_network_is_kept_as_it_is_run_now(tmp_path: Path) -> None:
    folder = _saved(packed_convs(), tmp_path)
    weights = (folder / "model.safetensors").read_bytes()
    loaded: Any = packify.load(folder, model=convs())
    loaded.eval().tune(image(), budget_s=0.2)
    keep_execution(loaded, folder)
    again: Any = packify.load(folder, model=convs())
    assert again.executor.choices == loaded.executor.choices
    assert (folder / "model.safetensors").read_bytes() == weights
    assert {path.name for path in folder.iterdir()} >= {CONFIG_FILE, "model.safetensors"}
    assert not list(folder.glob(".config*"))


def test_an_older_artefact_says_nothing_about_it(tmp_path: Path) -> None:
    folder = _saved(packed_convs(), tmp_path)
    config = folder / CONFIG_FILE
    values = json.loads(config.read_text())
    del values["execution"]
    config.write_text(json.dumps(values | {"format": 3}))
    loaded: Any = packify.load(folder, model=convs())
    assert (loaded.strategy, format_of(loaded)) == ("auto", "channels_last")


@pytest.mark.parametrize(
    "execution",
    [
        {"strategy": "fast", "memory_format": "contiguous", "choices": []},
        {"strategy": "auto", "memory_format": "last", "choices": []},
        {"strategy": "auto", "memory_format": "contiguous", "choices": [{"device": "cpu"}]},
        {"strategy": "auto", "memory_format": "contiguous", "choices": 3},
        {"strategy": ["auto"], "memory_format": "contiguous", "choices": []},
        {"strategy": "auto"},
        3,
    ],
)
def test_what_anybody_may_have_written_is_one_clear_error(execution: object, tmp_path: Path) -> None:
    folder = _saved(packed_convs(), tmp_path)
    config = folder / CONFIG_FILE
    config.write_text(json.dumps(json.loads(config.read_text()) | {"execution": execution}))
    with pytest.raises(packify.ArtefactError, match="execution"):
        packify.load(folder, model=convs())
