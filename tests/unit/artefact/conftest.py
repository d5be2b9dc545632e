"""What the tests of this room are given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import packify
from packify import sources
from tests.unit.artefact.artefacts import pack_small, trained
from tests.unit.artefact.hub_server import Hub, ask, running_hub


@pytest.fixture
def conv(nets: Path) -> sources.Reference:
    return sources.resolve(f"{nets}:conv")


@pytest.fixture
def saved(conv: sources.Reference, tmp_path: Path) -> Path:
    return packify.save(trained(pack_small(conv)), tmp_path / "net", source=conv.source)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub of models on this machine that huggingface_hub asks, with an empty cache."""
    with running_hub() as found:
        ask(monkeypatch, found.endpoint)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
        yield found
