from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import packify
from packify.core.errors import ExportError, SpecError
from packify.exporting import exporter
from tests.unit.exporting.networks import Attention, conv_net, packed_of

X = torch.randn(2, 3, 8, 8)

_WITHOUT_PACKIFY = """
import sys, torch

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("packify", "timm", "torchvision"):
            raise ImportError(name)

sys.meta_path.insert(0, Nothing())
network = torch.export.load(sys.argv[1]).module()
x = torch.arange(5 * 3 * 8 * 8.).reshape(5, 3, 8, 8).sin()
torch.save({name: value.detach() for name, value in network(x).items()}, sys.argv[2])
"""


@pytest.mark.slow
def test_a_process_without_packify(tmp_path: Path) -> None:
    packed = packed_of(Attention())
    found = packify.export(packed, tmp_path / "net.pt2", outputs=["mean", "members", "uncertainty"])
    assert found.format == "pt2"
    assert found.inputs == {"input0": "float32 b 3 8 8"}
    assert found.outputs["probabilities"] == "float32 b 5"
    subprocess.run([sys.executable, "-c", _WITHOUT_PACKIFY, str(found.path), str(tmp_path / "out.pt")], check=True, cwd="/")
    x = torch.arange(5 * 3 * 8 * 8.0).reshape(5, 3, 8, 8).sin()
    outputs = torch.load(tmp_path / "out.pt")
    for name, value in vars(packify.uncertainty(packed, x)).items():
        torch.testing.assert_close(outputs[name], value)
    torch.testing.assert_close(outputs["members"], packed.members(x))


@pytest.mark.slow
def test_three_batches_are_compared_and_the_network_is_left_alone(tmp_path: Path) -> None:
    packed = packed_of(conv_net()).train()
    found = packify.export(packed, tmp_path / "net.pt2", dtype="bf16")
    assert [one.batch for one in found.comparisons] == [1, 2, 5]
    assert packed.training
    assert next(packed.parameters()).dtype == torch.float32
    fixed = packify.export(packed, tmp_path / "one.pt2", batch=4)
    assert [one.batch for one in fixed.comparisons] == [4, 4, 4]
    assert fixed.to_dict()["inputs"] == {"input0": "float32 4 3 8 8"}


@pytest.mark.slow
def test_members_and_single_networks(tmp_path: Path) -> None:
    packed = packed_of(conv_net())
    member = packed.extract(1)
    found = packify.export(member, tmp_path / "member.pt2", example_inputs=X)
    run: Any = torch.export.load(found.path).module()
    torch.testing.assert_close(run(X)["probabilities"], member(X).softmax(-1))
    single = packify.export(conv_net(), tmp_path / "single.pt2", example_inputs=(X,), average="mean")
    assert "mean" in single.outputs


def test_several_inputs_by_name(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.fc = nn.Embedding(10, 8), nn.Linear(8, 4)

        def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.fc((self.embed(tokens) * mask[..., None]).sum(1))

    example = {"tokens": torch.zeros(2, 6, dtype=torch.long), "mask": torch.ones(2, 6)}
    packed = packify.pack(Two(), example, alpha=2, num_estimators=2, average="probs")
    found = packify.export(packed, tmp_path / "net.pt2")
    assert found.inputs == {"input0": "int64 b 6", "input1": "float32 b 6"}


def test_a_file_that_is_not_like_torch_gets_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        exporter, "open_file", lambda kind, path, outputs: lambda tensors: {name: torch.zeros(len(tensors[0]), 5) for name in outputs}
    )
    with pytest.raises(ExportError, match="at batch 1"):
        packify.export(packed_of(conv_net()), tmp_path / "net.pt2", outputs=["mean"])
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    packed = packed_of(conv_net())
    (tmp_path / "net.pt2").write_text("mine")
    with pytest.raises(ExportError, match="--force"):
        packify.export(packed, tmp_path / "net.pt2")
    assert (tmp_path / "net.pt2").read_text() == "mine"
    packify.export(packed, tmp_path / "net.pt2", force=True, check=False)
    assert (tmp_path / "net.pt2").stat().st_size > 100


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("net.txt", {}, "formats are"),
        ("net.so", {"to": "aoti"}, "called .pt2"),
        ("net.pt2", {"batch": 0}, "dynamic, or a number"),
        ("net.pt2", {"batch": True}, "dynamic, or a number"),
        ("net.pt2", {"dtype": "int3"}, "dtypes are"),
        ("net.pt2", {"quantise": "int8"}, "onnxruntime quantises"),
        ("net.pt2", {"outputs": ["spread"]}, "mean, members, uncertainty"),
        ("net.onnx", {"to": "tflite"}, "formats are"),
    ],
)
def test_wrong_arguments(tmp_path: Path, name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        packify.export(packed_of(conv_net()), tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="example_inputs"):
        packify.export(conv_net(), tmp_path / "net.pt2")
    with pytest.raises(SpecError, match=r"nn\.Module"):
        packify.export("net", tmp_path / "net.pt2")  # type: ignore[arg-type]
    with pytest.raises(ExportError, match="mkdir -p"):
        packify.export(packed_of(conv_net()), tmp_path / "not" / "net.pt2")


_SLOW = """
import sys, time, torch
sys.path.insert(0, sys.argv[2])
import packify
from packify.exporting import exporter
from tests.unit.exporting.networks import conv_net, packed_of
def wait(*args, **kwargs):
    print("written", flush=True)
    time.sleep(60)
exporter.compare = wait
packify.export(packed_of(conv_net()), sys.argv[1])
"""


@pytest.mark.slow
def test_an_export_that_is_killed_leaves_no_file_of_that_name(tmp_path: Path) -> None:
    target = tmp_path / "net.pt2"
    root = str(Path(__file__).parents[3])
    with subprocess.Popen([sys.executable, "-c", _SLOW, str(target), root], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "written"
        os.kill(process.pid, signal.SIGKILL)
    assert not target.exists()
    assert any(path.name.endswith(".part") for path in tmp_path.iterdir())
    began = time.monotonic()
    packify.export(packed_of(conv_net()), target)
    assert [path.name for path in tmp_path.iterdir()] == ["net.pt2"]  # what was left is cleared away
    assert time.monotonic() - began < 120
