from __future__ import annotations

import logging
from pathlib import Path

import pytest

import packify
from packify import sources
from packify.artefact.fetching import fetch
from packify.core.errors import ArtefactError
from tests.unit.artefact.hub_server import Hub, ask


def test_files_of_one_commit(hub: Hub, saved: Path) -> None:
    packify.push_to_hub(saved, "me/net")
    folder = fetch("hf-hub:me/net")
    assert folder.name == hub.name(hub.files["me/net"]["main"])
    asked = [request for request in hub.requests if request.endswith("model.safetensors")]
    assert asked
    assert all(f"/resolve/{folder.name}/" in request for request in asked)


@pytest.mark.parametrize(
    ("name", "why", "fix"),
    [
        ("hf-hub:me/other", "no such repository", "hf auth login"),
        ("hf-hub:me/net@v9", "no such revision", "leave @revision out"),
        ("hf-hub:me/words", "no artefact of packify's", "push_to_hub"),
    ],
)
def test_what_is_not_there(hub: Hub, saved: Path, name: str, why: str, fix: str) -> None:
    packify.push_to_hub(saved, "me/net")
    hub.files["me/words"] = {"main": {"README.md": b"# words"}}
    with pytest.raises(ArtefactError, match=why) as caught:
        packify.load(name)
    assert fix in caught.value.fix
    assert caught.value.where.startswith("hf-hub:me/")


def test_another_librarys_config_stops_before_the_weights(hub: Hub) -> None:
    hub.files["me/bert"] = {"main": {"config.json": b'{"architectures": ["Bert"]}', "model.safetensors": b"x" * 100}}
    with pytest.raises(ArtefactError, match="push_to_hub wrote"):
        packify.load("hf-hub:me/bert")
    assert not any(request.endswith("model.safetensors") for request in hub.requests)


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record.getMessage())


def test_without_a_connection(hub: Hub, saved: Path, conv: sources.Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    packify.push_to_hub(saved, "me/net")
    packify.load("hf-hub:me/net", model=conv.model)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between its tries
    ask(monkeypatch, "http://127.0.0.1:9")
    packify.load("hf-hub:me/net", model=conv.model)  # there is a copy
    told = _Records()
    logging.getLogger("huggingface_hub").addHandler(told)
    with pytest.raises(ArtefactError, match="cannot be reached, and there is no copy of it here") as caught:
        packify.load("hf-hub:me/new")
    logging.getLogger("huggingface_hub").removeHandler(told)
    assert "HF_HOME" in caught.value.fix
    assert told.found == []  # one message, not one for every try
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    packify.load("hf-hub:me/net", model=conv.model)
    with pytest.raises(ArtefactError, match="no copy of it here"):
        packify.load("hf-hub:me/new")


def test_files_that_were_exchanged_on_the_hub(hub: Hub, saved: Path, conv: sources.Reference) -> None:
    packify.push_to_hub(saved, "me/net")
    weights = hub.files["me/net"]["main"]["model.safetensors"]
    for changed in (weights[:-1] + bytes([weights[-1] ^ 1]), weights[:-9]):
        hub.files["me/net"]["main"]["model.safetensors"] = changed
        hub.files["me/net"][hub.name(hub.files["me/net"]["main"])] = hub.files["me/net"]["main"]
        with pytest.raises(ArtefactError, match="truncated or changed"):
            packify.load("hf-hub:me/net", model=conv.model)
