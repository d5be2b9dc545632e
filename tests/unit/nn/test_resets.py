"""A layer type's own reset: as torch draws a new layer of these sizes."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import packify
from packify.nn.resets import can_reset, reset, reset_name


def test_attention_resets_as_torch_does() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
            self.head = nn.Linear(64, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.block(x).mean(1))

    model = Net()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7)
    packed = packify.pack(model, torch.randn(2, 5, 64), alpha=1, num_estimators=1, init="reset")
    wanted = Net()
    for name, tensor in wanted.named_parameters():
        drawn = packed.get_parameter(name).detach()
        if tensor.numel() < 10:
            continue
        assert float(drawn.abs().max()) <= 1.1 * float(tensor.detach().abs().max()) + 1e-9, name
        assert math.isclose(float(drawn.std()), float(tensor.detach().std()), rel_tol=0.2, abs_tol=1e-9), name


@pytest.mark.parametrize(
    ("layer", "smaller"),
    [
        (lambda: nn.Linear(12, 8), lambda: nn.Linear(6, 4)),
        (lambda: nn.Conv2d(8, 12, 3), lambda: nn.Conv2d(4, 6, 3)),
        (lambda: nn.ConvTranspose1d(8, 12, 3, bias=False), lambda: nn.ConvTranspose1d(4, 6, 3, bias=False)),
        (lambda: nn.LSTM(12, 8, 2, bidirectional=True), lambda: nn.LSTM(6, 4, 2, bidirectional=True)),
        (lambda: nn.Embedding(9, 8, padding_idx=2), lambda: nn.Embedding(9, 4, padding_idx=2)),
        (lambda: nn.BatchNorm2d(8), lambda: nn.BatchNorm2d(4)),
        (lambda: nn.LayerNorm(8), lambda: nn.LayerNorm(4)),
        (lambda: nn.Bilinear(4, 6, 8), lambda: nn.Bilinear(2, 3, 4)),
        (lambda: nn.PReLU(8), lambda: nn.PReLU(4)),
    ],
)
def test_a_layer_is_drawn_as_a_new_one_of_these_sizes(layer: Callable[[], nn.Module], smaller: Callable[[], nn.Module]) -> None:
    reference = layer()
    with torch.no_grad():
        for tensor in reference.parameters():
            tensor.fill_(7)
    assert can_reset(reference)
    torch.manual_seed(3)
    wanted = dict(smaller().named_parameters())
    torch.manual_seed(3)
    found = reset(reference, {name: tuple(tensor.shape) for name, tensor in wanted.items()})
    assert found.keys() == wanted.keys()
    assert all(found[name].equal(tensor) for name, tensor in wanted.items())
    assert all((tensor == 7).all() for tensor in reference.parameters())


def test_groups_and_half_precision() -> None:
    layer = nn.Conv1d(8, 8, 3, groups=2).half()
    torch.manual_seed(0)
    wanted = nn.Conv1d(8, 8, 3, groups=4)
    torch.manual_seed(0)
    found = reset(layer, {"weight": (8, 2, 3), "bias": (8,)}, groups=4)
    assert found["weight"].dtype == torch.float32  # torch draws half precision in another way
    assert found["weight"].equal(wanted.weight)
    assert layer.groups == 2


def test_which_layers_say_how_they_are_drawn() -> None:
    class Mine(nn.Linear):
        def reset_parameters(self) -> None:
            raise AssertionError("the user's own code is not run")

    class Other(nn.Module):
        pass

    assert not can_reset(Other())
    assert not can_reset(nn.Sequential(nn.Linear(2, 2)))
    assert reset_name(nn.Conv2d(1, 1, 1)) == "Conv2d's own reset"
    layer = nn.Linear(4, 4)
    layer.__class__ = Mine
    assert reset_name(layer) == "Linear's own reset"
    assert reset(layer, {"weight": (2, 2)})["weight"].shape == (2, 2)
