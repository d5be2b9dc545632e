"""The recipes of the README: a plain loop, Lightning, Hugging Face's Trainer, timm's parts; they run where the library is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from tests.examples import EXAMPLES, example

# what these libraries warn of in one another is nothing that can be mended here
pytestmark = pytest.mark.filterwarnings("ignore")


def _reference(classes: int) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential()
    model.features = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
    model.head = nn.Linear(256, classes)
    return model


@pytest.fixture(scope="module")
def data() -> Any:
    return example("train_data").open_data("generated", (3, 16, 16))


def test_a_plain_loop(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    found = example("recipes_plain").main(_reference(data.classes), data.train, data.test, epochs=4)
    assert found.accuracy > 0.5
    assert found.num_estimators == 4


@pytest.mark.slow
def test_a_plain_loop_on_two_processes() -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(EXAMPLES / "recipes_plain.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("accuracy")]
    assert len(lines) == 2


def test_timms_parts(data: Any) -> None:
    train = DataLoader(data.train, 64, shuffle=True, drop_last=True)
    found = example("recipes_timm").main(_reference(data.classes), train, DataLoader(data.test, 64), data.classes, epochs=4)
    assert found.accuracy > 0.4


def test_lightning(data: Any, tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    script = example("recipes_lightning")
    quiet = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": False,
        "default_root_dir": tmp_path,
        "accelerator": "cpu",
    }
    loaders = DataLoader(data.train, 64, shuffle=True), DataLoader(data.test, 64)
    found = script.main(_reference(data.classes), *loaders, epochs=4, **quiet)
    assert found.accuracy > 0.5


def test_hugging_faces_trainer(data: Any, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    found = example("recipes_transformers").main(data.train, data.test, data.classes, 16, tmp_path, epochs=4)
    assert found["eval_loss"] < 1.3  # log 4 is chance
    assert any(tmp_path.glob("checkpoint-*/model.safetensors"))
