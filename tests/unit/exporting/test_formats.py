from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from packify.exporting.deployment import Deployment
from packify.exporting.formats import FORMATS, Wish, open_file, write
from packify.exporting.programs import program_of
from tests.unit.exporting.networks import Attention, packed_of

X = torch.randn(2, 3, 8, 8)


@pytest.mark.slow_cases("pt2")
@pytest.mark.parametrize("kind", ["pt2", *(pytest.param(kind, marks=pytest.mark.slow) for kind in FORMATS if kind != "pt2")])
def test_written_and_run(kind: str, tmp_path: Path) -> None:
    if kind == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    if kind == "aoti" and shutil.which("g++") is None:
        pytest.skip("AOTInductor needs a C++ compiler")
    deployment = Deployment(packed_of(Attention()), X).eval()
    names = tuple(deployment(X))
    path = tmp_path / ("net.onnx" if kind == "onnx" else "net.pt2")
    write(kind, program_of(deployment, [X], dynamic=True), path, Wish(names))  # type: ignore[arg-type]
    run = open_file(kind, path, names)  # type: ignore[arg-type]
    for batch in (1, 4):
        x = torch.randn(batch, 3, 8, 8)
        found = run([x])
        for name, value in deployment(x).items():
            torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-4)
