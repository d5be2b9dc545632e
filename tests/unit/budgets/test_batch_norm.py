"""Batch norm without arithmetic keeps for backward what torch's own keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from packify.budgets import measuring
from packify.capture.graphs import record_graphs


class Functional(nn.Module):
    def __init__(self, training: bool) -> None:
        super().__init__()
        self.conv, self.norm, self.training_norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), training

    def forward(self, x: Tensor) -> Tensor:
        mean, var, weight = self.norm.running_mean, self.norm.running_var, self.norm.weight
        return F.batch_norm(self.conv(x), mean, var, weight=weight, training=self.training_norm).relu()


_NETWORKS = {
    "layers": (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1)), (2, 3, 9, 9)),
    "vectors": (lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)), (2, 6)),
    "without weights": (lambda: nn.Sequential(nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8, affine=False), nn.Conv1d(8, 4, 1)), (2, 3, 9)),
    "without statistics": (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, track_running_stats=False)), (2, 3, 9, 9)),
    "first": (lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3)), (2, 3, 9, 9)),
    "instance": (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8, affine=True), nn.Conv2d(8, 4, 1)), (2, 3, 9, 9)),
    "function": (lambda: Functional(True), (2, 3, 9, 9)),
    "function that is not training": (lambda: Functional(False), (2, 3, 9, 9)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", _NETWORKS)
def test_as_much_as_torch_keeps(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    build, shape = _NETWORKS[name]
    recorded = record_graphs(build().to(dtype), torch.zeros(shape, dtype=dtype))
    network = measuring.network(recorded.root, recorded.graphs["train"], recorded.constants, batched=True)
    found = measuring.kept_for_backward(network)
    used: list[Any] = []

    def arithmetic(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        used.append(x)
        return F.batch_norm(x, None, None, weight, bias, training=True)

    def function(*args: Any, **kwargs: Any) -> Tensor:
        used.append(args)
        return F.batch_norm(*args, **kwargs)

    monkeypatch.setattr(measuring, "normalised", arithmetic)
    monkeypatch.setattr(measuring, "trained_batch_norm", function)
    assert found == measuring.kept_for_backward(network) > 0
    assert bool(used) != (name == "instance")
