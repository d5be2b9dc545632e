from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import packify
from packify.core.errors import ExportError
from tests.unit.exporting.networks import Attention, Biased, conv_net, packed_of
from tests.unit.exporting.test_diagnosis import Odd


@pytest.mark.slow
def test_without_its_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ExportError, match=r"packify-torch\[export\]"):
        packify.export(packed_of(conv_net()), tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_names_and_batch(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    found = packify.export(packed_of(Attention()), tmp_path / "net.onnx", outputs=["mean", "members", "uncertainty"])
    model = onnx.load(found.path)
    onnx.checker.check_model(model)
    assert [value.name for value in model.graph.input] == ["input0"]
    sizes = [size.dim_param or size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["batch", 3, 8, 8]
    assert [value.name for value in model.graph.output] == list(found.outputs)
    assert found.outputs["members"] == "float32 3 b 5"


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"dtype": "fp16"}, {"quantise": "int8"}, {"batch": 3}, {"opset": 20}])
def test_smaller_and_other_files(tmp_path: Path, options: dict[str, object]) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    found = packify.export(packed_of(Attention()), tmp_path / "net.onnx", **options)  # type: ignore[arg-type]
    assert len(found.comparisons) == 3
    for one in found.comparisons:
        errors = {each.output: each.max_error for each in one.differences}
        assert errors["probabilities"] < 0.1
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


@pytest.mark.slow
@pytest.mark.parametrize("quantise", [None, "int8"])
def test_members_in_turn_have_weights_of_their_own(tmp_path: Path, quantise: Any) -> None:
    """Large ones too: what reads a part of a packed weight as it runs is neither laid out nor quantised as the file is loaded."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    network = nn.Sequential(
        nn.Conv2d(3, 64, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 5)
    )
    found = packify.export(packed_of(network), tmp_path / "net.onnx", strategy="in turn", quantise=quantise, outputs=["members"])
    graph = onnx.load(found.path).graph
    weights = {tensor.name for tensor in graph.initializer}
    assert [node.op_type for node in graph.node if node.op_type in ("Slice", "Squeeze", "Split") and node.input[0] in weights] == []
    if quantise is None:
        assert sum(len(tensor.raw_data) for tensor in graph.initializer) < 4.2 * sum(p.numel() for p in packed_of(network).parameters())


@pytest.mark.slow
def test_attention_with_a_bias(tmp_path: Path) -> None:
    """Its kernel lies otherwise in memory than what the exporter takes it apart into."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    found = packify.export(packed_of(Biased()), tmp_path / "net.onnx")
    assert [one.batch for one in found.comparisons] == [1, 2, 5]


@pytest.mark.slow
def test_an_operator_that_onnx_lacks(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    with pytest.raises(ExportError, match="onnx cannot hold that operator") as caught:
        packify.export(packed_of(Odd(), "mean"), tmp_path / "net.onnx")
    assert "test_diagnosis.py:" in caught.value.where
    assert "bessel" in caught.value.found
    assert "Next steps" not in str(caught.value)
    assert "pt2" in caught.value.fix
    assert list(tmp_path.iterdir()) == []
    assert packify.export(packed_of(Odd(), "mean"), tmp_path / "net.pt2").path.is_file()
