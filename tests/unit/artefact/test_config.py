from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from packify.artefact import CONFIG_FILE, FORMAT, Config, read_config
from packify.core.errors import ArtefactError
from packify.core.spec import Spec
from packify.sources import Source

CONFIG = Config(
    kind="packed",
    member=None,
    source=Source("timm", "resnet18", {"num_classes": 10}),
    spec=Spec(2, 4, 2),
    example={"shape": [2, 3, 32, 32], "dtype": "float32"},
    inputs="shared",
    average="probs",
    outputs={"features": "free"},
    training=False,
    made_with={"torch": "2.11.0"},
    structure_sha256="0" * 64,
    weights_sha256="1" * 64,
    packify="0.1.0",
)


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        replace(CONFIG, kind="member", member=3),
        replace(CONFIG, source=None),
        replace(CONFIG, average={"out": "probs", "aux": "mean"}),
    ],
)
def test_round_trip(config: Config) -> None:
    assert Config.from_json(config.to_json()) == config


def _changed(**changes: Any) -> str:
    return json.dumps(json.loads(CONFIG.to_json()) | changes)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[]",
        "3",
        "null",
        "[" * 100000,
        '{"format": ' + "9" * 5000 + "}",
        "{}",
        _changed(format="1"),
        _changed(format=0),
        _changed(format=True),
        _changed(more=1),
        _changed(packify=3),
        _changed(packify="1.0; rm -rf /"),
        _changed(kind="pickle"),
        _changed(kind=["packed"]),
        _changed(member=1),
        _changed(kind="member", member=4),
        _changed(kind="member", member=True),
        _changed(spec=None),
        _changed(spec={"alpha": 2}),
        _changed(spec={"alpha": 2, "num_estimators": 4, "more": 1}),
        _changed(spec={"alpha": -2, "num_estimators": 4}),
        _changed(spec={"alpha": "2", "num_estimators": 4}),
        _changed(spec={"alpha": 2, "num_estimators": 10**12}),
        _changed(spec={"alpha": 10**400, "num_estimators": 1}),
        _changed(spec={"alpha": 2, "num_estimators": 4, "gamma_policy": ["paper"]}),
        CONFIG.to_json().replace('"alpha": 2', '"alpha": NaN'),
        _changed(example=3),
        _changed(inputs="both"),
        _changed(inputs=["shared"]),
        _changed(average="median"),
        _changed(average=[[[[[[[[[[[[[[[[[["mean"]]]]]]]]]]]]]]]]]]),
        _changed(training="no"),
        _changed(made_with={"evil-package": "1.0"}),
        _changed(made_with={"torch": "2 --index-url http://example.org"}),
        _changed(weights_sha256="xyz"),
        _changed(structure_sha256=None),
        _changed(source={"kind": "timm", "name": "resnet18", "args": {"pretrained": True}}),
        _changed(source="resnet18"),
    ],
)
def test_damaged_configs_are_one_clear_error(text: str) -> None:
    with pytest.raises(ArtefactError) as error:
        Config.from_json(text)
    assert len(str(error.value)) < 2000
    assert error.value.why
    assert error.value.fix


def test_a_newer_format_asks_for_an_upgrade() -> None:
    with pytest.raises(ArtefactError, match="pip install --upgrade packify-torch"):
        Config.from_json(_changed(format=FORMAT + 1, packify="9.0", anything="new"))


def test_reading(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no such folder"):
        read_config(tmp_path / "none")
    with pytest.raises(ArtefactError, match=r"holds no config\.json"):
        read_config(tmp_path)
    path = tmp_path / CONFIG_FILE
    path.write_text(CONFIG.to_json())
    assert read_config(tmp_path) == CONFIG
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ArtefactError, match="no UTF-8 text"):
        read_config(tmp_path)
    path.write_text(" " * (5 * 2**20))
    with pytest.raises(ArtefactError, match="at most"):
        read_config(tmp_path)


def test_an_artefact_of_format_1_has_every_output_kept() -> None:
    values = json.loads(CONFIG.to_json())
    del values["outputs"]
    assert Config.from_json(json.dumps(values | {"format": 1})).outputs == {}
    with pytest.raises(ArtefactError, match="missing fields: \\['outputs'\\]"):
        Config.from_json(json.dumps(values))
