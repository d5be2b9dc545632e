"""What the tests of this room are given."""

from __future__ import annotations

from pathlib import Path

import pytest

import packify
from packify import sources
from tests.unit.artefact.artefacts import pack_small, trained


@pytest.fixture
def conv(nets: Path) -> sources.Reference:
    return sources.resolve(f"{nets}:conv")


@pytest.fixture
def saved(conv: sources.Reference, tmp_path: Path) -> Path:
    return packify.save(trained(pack_small(conv)), tmp_path / "net", source=conv.source)
