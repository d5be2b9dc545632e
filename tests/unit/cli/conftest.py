"""What the tests of this room are given."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.commands import EXAMPLES, run


@pytest.fixture
def project(nets: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(nets.parent)
    return nets.parent


@pytest.fixture
def converted(project: Path) -> Path:
    assert run("convert", "nets.py:conv", "--alpha", "2", "--M", "2", "--quiet").exit_code == 0
    return project / "conv-a2-M2-g1"


@pytest.fixture
def in_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples are the working directory."""
    monkeypatch.chdir(EXAMPLES)
