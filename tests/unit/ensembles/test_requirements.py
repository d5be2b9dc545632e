from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import packify
from tests.unit.ensembles.small import Returning


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_an_example_of_another_dtype_than_the_weights(dtype: torch.dtype) -> None:
    with pytest.raises(packify.TraceError, match="float32"):
        packify.pack(nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)), torch.zeros(2, 5, dtype=dtype), alpha=2, num_estimators=2)


def test_a_network_without_anything_to_pack() -> None:
    with pytest.raises(packify.PackError, match="nothing to pack"):
        packify.pack(nn.Sequential(nn.ReLU(), nn.Flatten()), torch.randn(2, 3), alpha=2, num_estimators=2)


@pytest.mark.parametrize("what", ["hello", None, 3, torch.zeros(2, 0)])
def test_outputs_without_tensors(what: Any) -> None:
    with pytest.raises(packify.TraceError, match="no tensor"):
        packify.pack(Returning(what), torch.randn(2, 5), alpha=2, num_estimators=2)
