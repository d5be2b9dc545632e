"""Which line of a user's code is running."""

from __future__ import annotations

import os
import sys
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import packify
from packify.capture import source_lines
from packify.capture.source_lines import source_line


def test_a_line_of_this_file() -> None:
    assert source_line() == f"{__file__}:{sys._getframe().f_lineno}"


def test_the_frames_of_torch_are_passed_over() -> None:
    seen: list[str] = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(source_line())
            return func(*args, **(kwargs or {}))

    class Part(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1

    with Watch():
        nn.Sequential(nn.Identity(), Part())(torch.zeros(1))
    assert all(line.startswith(__file__) for line in seen)


def test_a_library_whose_name_starts_like_torchs_is_no_part_of_it() -> None:
    graph = packify.record(torchvision.ops.StochasticDepth(0.5, "row").eval(), torch.randn(2, 4)).graphs.graphs["train"]
    (product,) = (node for node in graph.nodes if node.meta.get("op") == "mul")
    assert f"torchvision{os.sep}ops{os.sep}stochastic_depth.py:" in product.meta["source"]


def test_layers_alone_are_told_by_the_line_that_records_them() -> None:
    graph = packify.record(nn.Sequential(nn.ReLU()), torch.randn(2, 4)).graphs.graphs["eval"]
    (relu,) = (node for node in graph.nodes if node.meta.get("op") == "relu")
    assert relu.meta["source"].startswith(__file__)


def test_where_there_is_no_code_of_a_users(monkeypatch: Any) -> None:
    monkeypatch.setattr(source_lines, "_SKIPPED_FRAMES", ("",))
    assert source_line() == "unknown source"
