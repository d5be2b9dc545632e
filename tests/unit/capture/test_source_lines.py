"""Which line of a user's code is running."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

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


def test_where_there_is_no_code_of_a_users(monkeypatch: Any) -> None:
    monkeypatch.setattr(source_lines, "_SKIPPED_FRAMES", ("",))
    assert source_line() == "unknown source"
