"""What the tests of this room are given."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

import packify
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


@pytest.fixture
def artefact(nets: Path, tmp_path: Path) -> tuple[str, ...]:
    """The command and an artefact of three members for 3x8x8 and five classes."""
    torch.manual_seed(0)
    model = packify.load_reference(f"{nets}:conv")
    packed = packify.pack(model, torch.randn(2, 3, 8, 8), alpha=2, num_estimators=3).eval()
    packify.save(packed, tmp_path / "art")
    packify.save_member(packed, 1, tmp_path / "member")
    return "evaluate", str(tmp_path / "art"), "--model", f"{nets}:conv"


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    generator = torch.Generator().manual_seed(0)
    for name, count in (("data", 3), ("shift", 2), ("ood", 2)):
        for label in range(5):
            folder = tmp_path / name / f"class{label}"
            folder.mkdir(parents=True)
            for index in range(count):
                values = torch.randint(256, (8, 8, 3), generator=generator, dtype=torch.uint8).numpy()
                Image.fromarray(values).save(folder / f"{index}.png")
    return {name: str(tmp_path / name) for name in ("data", "shift", "ood")}
