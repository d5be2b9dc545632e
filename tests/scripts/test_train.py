"""examples/train.py: what it trains on, what it saves, a kill and a resume, several processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image

import packify
from packify.artefact import read_config
from tests.examples import EXAMPLES, example

_NETS = """
from torch import nn


def conv(num_classes=10, in_chans=1, norm=True):
    def block(inputs, outputs):
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs) if norm else nn.Identity(), nn.ReLU())

    model = nn.Sequential()
    model.features = nn.Sequential(block(in_chans, 16), nn.MaxPool2d(2), block(16, 16), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    model.head = nn.Linear(64, num_classes)
    return model
"""


@pytest.fixture(scope="module")
def train() -> ModuleType:
    return example("train")


@pytest.fixture
def conv(tmp_path: Path) -> str:
    (tmp_path / "nets.py").write_text(_NETS)
    return f"{tmp_path / 'nets.py'}:conv"


_GENERATED = ("--data", "generated", "--input-size", "1x8x8", "--batch-size", "64")


def _run(train: ModuleType, model: str, out: Path, *options: str) -> packify.Evaluation:
    found: packify.Evaluation | None = train.main([model, "--out", str(out), "--alpha", "2", "--M", "2", "--device", "cpu", *options])
    assert found is not None
    return found


def _tensors(out: Path) -> dict[str, torch.Tensor]:
    """Everything in a checkpoint, by its path."""
    found: dict[str, torch.Tensor] = {}

    def collect(path: str, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found[path] = value
        for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ():
            collect(f"{path}.{key}", item)

    collect("", torch.load(out / "last.pt", weights_only=True))
    return found


def test_it_is_short_enough_to_read() -> None:
    assert len((EXAMPLES / "train.py").read_text().splitlines()) < 250


@pytest.mark.slow
def test_digits_are_learned_and_the_artefact_is_what_was_evaluated(
    train: ModuleType, conv: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = _run(train, conv, tmp_path / "run", "--data", "digits", "--input-size", "1x8x8", "--epochs", "3", "--lr", "0.1", "--json")
    assert found.accuracy > 0.8
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["epoch"] * 3 + ["end"]
    assert lines[0]["loss"] > lines[2]["loss"]
    assert lines[-1]["accuracy"] == lines[2]["accuracy"] == found.accuracy
    network = packify.load(tmp_path / "run" / "artefact", packify.load_reference(conv, num_classes=10))
    data = train.open_data("digits", (1, 8, 8), tmp_path)
    again = packify.evaluate(network, torch.utils.data.DataLoader(data.test, 128))
    assert again.nll == pytest.approx(found.nll, rel=1e-6)
    assert read_config(tmp_path / "run" / "artefact").training is False


@pytest.mark.parametrize(
    "options",
    [
        ("--ema", "0.9", "--mixup", "0.2", "--clip", "1"),
        ("--amp", "bf16", "--optimizer", "adamw", "--lr", "0.001", "--warmup", "1", "--label-smoothing", "0.1"),
        ("--weights", "inherit", "--workers", "1", "--gamma", "2"),
    ],
)
def test_options(train: ModuleType, conv: str, tmp_path: Path, options: tuple[str, ...]) -> None:
    found = _run(train, conv, tmp_path / "run", *_GENERATED, "--epochs", "2", *options)
    assert found.samples == 128
    assert found.nll < 2


def test_the_average_of_the_weights_is_what_is_saved(train: ModuleType, conv: str, tmp_path: Path) -> None:
    _run(train, conv, tmp_path / "run", *_GENERATED, "--epochs", "1", "--ema", "0.9")
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    network = packify.load(tmp_path / "run" / "artefact", packify.load_reference(conv, num_classes=4))
    averaged = {name.removeprefix("module."): value for name, value in state["average"].items() if name != "n_averaged"}
    assert all(torch.equal(value, averaged[name]) for name, value in network.state_dict().items())
    assert not all(torch.equal(value, averaged[name]) for name, value in state["network"].items())


def test_an_interrupted_run_goes_on(train: ModuleType, conv: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = (*_GENERATED, "--epochs", "3", "--ema", "0.9", "--mixup", "0.2")
    whole = _run(train, conv, tmp_path / "whole", *options)
    epoch = train.train_epoch

    def dying(training: Any, *rest: Any) -> float:
        loss: float = epoch(training, *rest)
        if training.epoch == 2:  # the whole of the last epoch is lost
            raise KeyboardInterrupt
        return loss

    monkeypatch.setattr(train, "train_epoch", dying)
    with pytest.raises(KeyboardInterrupt):
        _run(train, conv, tmp_path / "killed", *options)
    monkeypatch.setattr(train, "train_epoch", epoch)
    torch.manual_seed(123)
    resumed = _run(train, conv, tmp_path / "killed", *options, "--resume")
    assert resumed == whole
    first, second = _tensors(tmp_path / "whole"), _tensors(tmp_path / "killed")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def _folder(root: Path, part: str, names: str, images: int = 3) -> None:
    for label, name in enumerate(names):
        (root / part / name).mkdir(parents=True)
        for index in range(images):
            Image.new("L", (12, 10), 60 * label + index).save(root / part / name / f"{index}.png")


def test_folders_of_images(train: ModuleType, conv: str, tmp_path: Path) -> None:
    _folder(tmp_path / "data", "train", "abc", 8)
    _folder(tmp_path / "data", "val", "bc")  # class a has no image here, and b is still class 1
    data = train.open_data(str(tmp_path / "data"), (1, 8, 8), tmp_path)
    assert data.classes == 3
    assert [label for _, label in data.test] == [1, 1, 1, 2, 2, 2]
    assert data.train[0][0].shape == (1, 8, 8)
    found = _run(train, conv, tmp_path / "run", "--data", str(tmp_path / "data"), "--input-size", "1x8x8", "--epochs", "1")
    assert found.samples == 6


def test_a_data_set_of_torchvisions(train: ModuleType, conv: str, tmp_path: Path) -> None:
    raw = tmp_path / "root" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", 40), ("t10k", 20)):
        images = torch.randint(256, (count, 28, 28), generator=generator, dtype=torch.uint8)
        labels = torch.arange(count, dtype=torch.uint8) % 10
        for name, values in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            header = bytes((0, 0, 8, values.dim())) + b"".join(size.to_bytes(4, "big") for size in values.shape)
            (raw / name).write_bytes(header + bytes(values.flatten().tolist()))
    options = ("--data", "mnist", "--root", str(tmp_path / "root"), "--input-size", "1x16x16", "--epochs", "1", "--batch-size", "16")
    assert _run(train, conv, tmp_path / "run", *options).samples == 20


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--data", "nowhere"), "neither a folder nor the name"),
        (("--data", "bare"), "train/CLASS/image.png"),
        (("--data", "empty"), "no images"),
        (("--data", "strange"), "class folders d"),
        (("--data", "CIFAR10"), "--download"),
        (("--data", "CocoDetection"), "no train and test part"),
        (("--data", "generated", "--lr", "1e30"), "diverged"),
        (("--data", "generated", "--input-size", "12"), "the data is images"),
        (("--data", "generated", "--M", "0"), "num_estimators"),
        (("--data", "generated", "--mesh", "member=two"), "a mesh has so many devices"),
        (("--data", "generated", "--mesh", "member=2"), "torchrun --nproc-per-node 2"),
    ],
)
def test_mistakes_are_one_message(
    train: ModuleType, conv: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    _folder(tmp_path / "bare", "images", "ab")
    _folder(tmp_path / "strange", "train", "abc")
    _folder(tmp_path / "strange", "test", "abd")
    (tmp_path / "empty" / "train" / "a").mkdir(parents=True)
    (tmp_path / "empty" / "val" / "a").mkdir(parents=True)
    with pytest.raises(SystemExit) as caught:
        _run(train, conv, tmp_path / "run", "--input-size", "1x8x8", "--epochs", "2", *options)
    message = str(caught.value)
    assert says in message
    assert all(part in message for part in ("found: ", "why: ", "what to do: "))


def test_a_run_is_never_written_over_or_mixed(train: ModuleType, conv: str, tmp_path: Path) -> None:
    options = ("--data", "generated", "--input-size", "1x8x8", "--epochs", "1")
    _run(train, conv, tmp_path / "run", *options)
    before = (tmp_path / "run" / "last.pt").read_bytes()
    with pytest.raises(SystemExit, match="--resume"):
        _run(train, conv, tmp_path / "run", *options)
    with pytest.raises(SystemExit, match=r"lr was 0\.05 and is 0\.1"):
        _run(train, conv, tmp_path / "run", *options, "--resume", "--lr", "0.1")
    assert (tmp_path / "run" / "last.pt").read_bytes() == before


def _command(conv: str, out: Path, *options: str) -> list[str]:
    fixed = (*_GENERATED, "--alpha", "2", "--M", "2", "--device", "cpu", "--json", "--out", str(out))
    return [str(EXAMPLES / "train.py"), conv, *fixed, *options]


@pytest.mark.slow
def test_kill_9_and_resume(train: ModuleType, conv: str, tmp_path: Path) -> None:
    options = ("--epochs", "4", "--batch-size", "16", "--ema", "0.9", "--mixup", "0.2")
    _run(train, conv, tmp_path / "whole", *_GENERATED, *options)
    with subprocess.Popen([sys.executable, *_command(conv, tmp_path / "killed", *options)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["epoch"] == 3:  # in the last epoch now
                process.send_signal(signal.SIGKILL)
                break
    assert not (tmp_path / "killed" / "artefact").exists()
    assert torch.load(tmp_path / "killed" / "last.pt", weights_only=True)["epoch"] == 3
    subprocess.run([sys.executable, *_command(conv, tmp_path / "killed", *options, "--resume")], check=True, capture_output=True)
    first, second = _tensors(tmp_path / "whole"), _tensors(tmp_path / "killed")
    assert all(torch.equal(first[name], second[name]) for name in first)
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "whole" / "artefact" / name).read_bytes() == (tmp_path / "killed" / "artefact" / name).read_bytes()


@pytest.mark.slow
def test_two_processes_are_one_with_twice_the_batch(train: ModuleType, conv: str, tmp_path: Path) -> None:
    options = ("--epochs", "2", "--arg", "norm=False", "--batch-size")
    _run(train, conv, tmp_path / "one", *_GENERATED, *options, "32")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, *_command(conv, tmp_path / "two", *options, "16")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3  # the first process alone talks
    one, two = (torch.load(tmp_path / out / "last.pt", weights_only=True)["network"] for out in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=2e-5)


_DOUBLE = """
import torch
from torch import nn


class Double(nn.Module):
    def __init__(self, num_classes=4, in_chans=1):
        super().__init__()
        self.stem, self.norm, self.head = nn.Conv2d(in_chans, 16, 3), nn.GroupNorm(2, 16), nn.Linear(16, num_classes)
        self.double()

    def forward(self, x):
        return self.head(self.norm(self.stem(x.double())).relu().mean((2, 3)))
"""
_TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node")


@pytest.fixture
def double(tmp_path: Path) -> str:
    (tmp_path / "double.py").write_text(_DOUBLE)
    return f"{tmp_path / 'double.py'}:Double"


def _weights(out: Path, model: str) -> dict[str, torch.Tensor]:
    return packify.load(out / "artefact", packify.load_reference(model, num_classes=4)).state_dict()


@pytest.mark.slow
@pytest.mark.parametrize(("mesh", "processes", "copies"), [("member=2", 2, 1), ("member=2,data=2", 4, 2)])
def test_a_mesh_is_one_process(train: ModuleType, double: str, tmp_path: Path, mesh: str, processes: int, copies: int) -> None:
    fixed = ("--epochs", "1", "--lr", "0.1", "--batch-size")  # 256 images: five steps of 48
    _run(train, double, tmp_path / "one", *_GENERATED, *fixed, "48")
    command = [*_TORCHRUN, str(processes), *_command(double, tmp_path / "mesh", *fixed, str(48 // copies), "--mesh", mesh)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == ["epoch", "end"]  # the first process alone talks
    one, spread = _weights(tmp_path / "one", double), _weights(tmp_path / "mesh", double)
    assert all(value.dtype == torch.float64 for value in one.values())
    for name, value in one.items():
        torch.testing.assert_close(spread[name], value, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_a_process_of_a_mesh_is_killed_and_the_run_goes_on(train: ModuleType, double: str, tmp_path: Path) -> None:
    options = ("--mesh", "member=2", "--epochs", "30", "--batch-size", "16")
    killed = _command(double, tmp_path / "killed", *options)
    with subprocess.Popen([*_TORCHRUN, "2", *killed], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["epoch"] == 3:
                children = [int(each) for each in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
                os.kill(children[-1], signal.SIGKILL)
                began = time.monotonic()
                break
        _, said = process.communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert process.returncode != 0
    assert "SIGKILL" in said or "Signal 9" in said
    assert (tmp_path / "killed" / "last" / ".metadata").is_file()
    assert not (tmp_path / "killed" / "artefact").exists()
    subprocess.run([*_TORCHRUN, "2", *killed, "--resume"], check=True, capture_output=True)
    subprocess.run([*_TORCHRUN, "2", *_command(double, tmp_path / "whole", *options)], check=True, capture_output=True)
    resumed, whole = _weights(tmp_path / "killed", double), _weights(tmp_path / "whole", double)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


@pytest.mark.slow
@pytest.mark.parametrize(("mesh", "says"), [("member=3", "choose member among [1, 2]"), ("member=2,data=2", "--nproc-per-node 4")])
def test_a_mesh_that_does_not_fit_ends_all_processes_with_one_message(double: str, tmp_path: Path, mesh: str, says: str) -> None:
    began = time.monotonic()
    command = [*_TORCHRUN, "2", *_command(double, tmp_path / "run", "--mesh", mesh)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode != 0
    assert done.stderr.count("error: ") == done.stderr.count(says) == 1
    assert done.stderr.count("Traceback (most recent call last)") == 1  # torchrun's own: that processes failed
    assert time.monotonic() - began < 90  # of which most is importing
    assert not (tmp_path / "run").exists()
