from __future__ import annotations

import pytest
import torch

import packify
from packify.cli.device_inputs import inputs_like, require_device
from tests.unit.execution.networks import packed_convs


def test_devices_by_name() -> None:
    assert require_device("cpu") == torch.device("cpu")
    for name in ("tpu9", "cuda:99", "meta", ""):
        with pytest.raises(packify.SpecError, match="--device"):
            require_device(name)


def test_inputs_have_another_batch() -> None:
    packed = packed_convs()
    x = inputs_like(packed, 7, torch.device("cpu"), torch.float64)
    assert (x.shape, x.dtype) == ((7, 3, 8, 8), torch.float64)
    packed.inputs = "independent"
    assert inputs_like(packed.train(), 2, torch.device("cpu"), torch.float32).shape[0] == 8
    with pytest.raises(packify.SpecError, match="--batch"):
        inputs_like(packed, 0, torch.device("cpu"), torch.float32)
