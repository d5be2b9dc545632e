from __future__ import annotations

import os
import shutil
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
from packify.exporting.exporter import run_by
from tests.unit.exporting.networks import Attention, conv_net, packed_of

X = torch.randn(2, 3, 8, 8)

_WITHOUT_PACKIFY = """
import sys, torch, torch._inductor

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("packify", "timm", "torchvision"):
            raise ImportError(name)

sys.meta_path.insert(0, Nothing())
network = torch.export.load(sys.argv[1]).module() if sys.argv[3] == "pt2" else torch._inductor.aoti_load_package(sys.argv[1])
x = torch.arange(5 * 3 * 8 * 8.).reshape(5, 3, 8, 8).sin()
torch.save({name: value.detach() for name, value in network(x).items()}, sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.parametrize("to", ["pt2", "aoti"])
def test_a_process_without_packify(tmp_path: Path, to: Any) -> None:
    if to == "aoti" and shutil.which("g++") is None:
        pytest.skip("AOTInductor needs a C++ compiler")
    packed = packed_of(Attention())
    found = packify.export(packed, tmp_path / "net.pt2", to=to, outputs=["mean", "members", "uncertainty"])
    assert found.format == to
    assert found.inputs == {"input0": "float32 b 3 8 8"}
    assert found.outputs["probabilities"] == "float32 b 5"
    subprocess.run([sys.executable, "-c", _WITHOUT_PACKIFY, str(found.path), str(tmp_path / "out.pt"), to], check=True, cwd="/")
    x = torch.arange(5 * 3 * 8 * 8.0).reshape(5, 3, 8, 8).sin()
    outputs = torch.load(tmp_path / "out.pt")
    for name, value in vars(packify.uncertainty(packed, x)).items():
        torch.testing.assert_close(outputs[name], value, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(outputs["members"], packed.members(x), atol=1e-5, rtol=1e-4)


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_file_that_is_not_like_torch_gets_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        exporter, "open_file", lambda kind, path, outputs: lambda tensors: {name: torch.zeros(len(tensors[0]), 5) for name in outputs}
    )
    with pytest.raises(ExportError, match="at batch 1"):
        packify.export(packed_of(conv_net()), tmp_path / "net.pt2", outputs=["mean"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    packed = packed_of(conv_net())
    (tmp_path / "net.pt2").write_text("mine")
    with pytest.raises(ExportError, match="--force"):
        packify.export(packed, tmp_path / "net.pt2")
    assert (tmp_path / "net.pt2").read_text() == "mine"
    (tmp_path / "folder.pt2").mkdir()
    with pytest.raises(ExportError, match="one file"):
        packify.export(packed, tmp_path / "folder.pt2", force=True)
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
        ("net.onnx", {"opset": 3}, "18 to 23"),
        ("net.pt2", {"opset": 20}, "18 to 23"),
        ("net.pt2", {"resolution": 64}, "fixed or dynamic"),
        ("net.pt2", {"strategy": "sideways"}, "one of these ways"),
    ],
)
def test_wrong_arguments(tmp_path: Path, name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        packify.export(packed_of(conv_net()), tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_single_network_has_no_members_to_run(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="leave it out"):
        packify.export(conv_net(), tmp_path / "net.pt2", example_inputs=X, fuse=True)
    with pytest.raises(SpecError, match="leave it out"):
        packify.export(conv_net(), tmp_path / "net.pt2", example_inputs=X, strategy="in turn")
    assert list(tmp_path.iterdir()) == []


def test_the_networks_own_strategies_come_back() -> None:
    packed = packed_of(conv_net()).eval()
    packed.strategies = {"0": "in turn"}
    with run_by(packed, "grouped"):
        assert packed.strategies == {}
    assert (packed.strategy, packed.strategies) == ("auto", {"0": "in turn"})
    with pytest.raises(ZeroDivisionError), run_by(packed, "in turn"):
        raise ZeroDivisionError
    assert (packed.strategy, packed.strategies) == ("auto", {"0": "in turn"})


def _operators(found: packify.Export) -> list[str]:
    return [str(node.target) for node in torch.export.load(found.path).graph.nodes if node.op == "call_function"]


@pytest.mark.slow
def test_fused_and_in_turn(tmp_path: Path) -> None:
    packed = packed_of(conv_net())
    whole = packify.export(packed, tmp_path / "whole.pt2", strategy="grouped")
    fused = packify.export(packed, tmp_path / "fused.pt2", fuse=True, strategy="in turn")
    assert (whole.strategy, fused.strategy) == ("grouped", "in turn")
    assert packed.strategy == "auto"
    assert any("norm" in name for name in _operators(whole))
    assert not any("norm" in name for name in _operators(fused))
    assert [name for name in _operators(whole) if "conv" in name] == ["aten.conv2d.default"]
    assert [name for name in _operators(fused) if "conv" in name] == ["aten.conv2d.default"] * 3


@pytest.mark.slow
def test_any_resolution(tmp_path: Path) -> None:
    packed, x = packed_of(conv_net()), torch.randn(3, 3, 20, 13)
    found = packify.export(packed, tmp_path / "net.pt2", resolution="dynamic")
    assert found.inputs == {"input0": "float32 b 3 h w"}
    run: Any = torch.export.load(found.path).module()
    torch.testing.assert_close(run(x)["probabilities"].log(), packed(x))
    tokens = packify.export(packed_of(Attention()), tmp_path / "tokens.pt2", resolution="dynamic")
    assert tokens.inputs == {"input0": "float32 b 3 h w"}


def test_a_resolution_that_the_network_fixes(tmp_path: Path) -> None:
    fixed = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 5))
    with pytest.raises(ExportError, match="--resolution"):
        packify.export(packed_of(fixed), tmp_path / "net.pt2", resolution="dynamic")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="example_inputs"):
        packify.export(conv_net(), tmp_path / "net.pt2")
    with pytest.raises(SpecError, match=r"nn\.Module"):
        packify.export("net", tmp_path / "net.pt2")  # type: ignore[arg-type]
    with pytest.raises(ExportError, match="mkdir -p"):
        packify.export(packed_of(conv_net()), tmp_path / "not" / "net.pt2")


def test_a_folder_that_cannot_be_written_is_known_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(exporter, "own_workplace", refuse)
    monkeypatch.setattr(exporter, "program_of", None)
    with pytest.raises(packify.PackifyError, match="check the permissions"):
        packify.export(packed_of(conv_net()), tmp_path / "net.pt2")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_file_that_appears_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "net.pt2"
    monkeypatch.setattr(exporter, "compare", lambda *args, **kwargs: target.write_text("mine") and ())
    with pytest.raises(ExportError, match="it exists already"):
        packify.export(packed_of(conv_net()), target)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("net.pt2", "mine")]


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
