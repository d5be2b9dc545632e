from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from torch import nn

import packify
from tests.unit.execution.networks import image, packed_convs


def _trained(packed: packify.PackedNetwork) -> packify.PackedNetwork:
    """Statistics and weights that are not the initial ones, for which a norm does next to nothing."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in (*packed.named_parameters(), *packed.named_buffers()):
            if name.endswith("running_var"):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
            elif tensor.dim() == 1 and tensor.is_floating_point():
                tensor.add_(0.3 * torch.randn(tensor.shape, generator=generator))
    return packed


def _check(packed: packify.PackedNetwork, x: torch.Tensor, left: int = 0) -> packify.PackedNetwork:
    packed, x = _trained(packed).double().eval(), x.double()
    before = {name: tensor.clone() for name, tensor in packed.state_dict().items()}
    fused = packed.fuse()
    with torch.no_grad():
        expected = packed.members(x)
        for strategy in ("grouped", "in turn", "batched", "per layer"):
            fused.strategy = strategy
            torch.testing.assert_close(fused.members(x), expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))
        torch.testing.assert_close(fused(x), packed(x))
        torch.testing.assert_close(fused.extract(-1)(x), expected[-1], rtol=1e-9, atol=1e-9 * float(expected.abs().max()))
    assert sum(name.endswith("running_mean") for name in fused.state_dict()) == left
    assert all(torch.equal(tensor, packed.state_dict()[name]) for name, tensor in before.items())
    return fused


@pytest.mark.parametrize("spec", [{}, {"gamma": 2, "min_channels_per_group": 1}, {"alpha": 1, "num_estimators": 1}])
def test_norms_are_folded_into_convs(spec: dict) -> None:
    fused = _check(packed_convs(**spec), image())
    assert "0.bias" in fused.state_dict()


@pytest.mark.parametrize("transposed", [nn.ConvTranspose2d(8, 12, 3, stride=2), nn.ConvTranspose2d(8, 12, 3, groups=2, bias=False)])
def test_transposed_convs(transposed: nn.Module) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), transposed, nn.BatchNorm2d(12), nn.Conv2d(12, 4, 1))
    _check(packify.pack(model, image(), alpha=2, num_estimators=2), image())


def test_linear_layers_and_dropout() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 8), nn.BatchNorm1d(8, affine=False))
    x = torch.randn(4, 6)
    fused = _check(packify.pack(model, x, alpha=2, num_estimators=2), x)
    assert not any(node.op == "call_module" for node in fused.graphs["eval"].nodes)


def test_norms_that_something_else_comes_before_stay() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1))
    _check(packify.pack(model, image(), alpha=2, num_estimators=2), image(), left=1)


def test_a_conv_that_something_else_reads_too_stays() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return self.head(y + self.norm(y))

    _check(packify.pack(Both(), image(), alpha=2, num_estimators=2), image(), left=1)


def test_tied_convs_stay() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.conv, self.one, self.two = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.BatchNorm2d(8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.two(self.conv(self.one(self.conv(self.stem(x))).relu()))

    _check(packify.pack(Twice(), image(), alpha=2, num_estimators=2), image(), left=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_100"])
def test_networks_of_timm_have_no_norms_left(name: str) -> None:
    x = torch.randn(2, 3, 64, 64)
    fused = _check(packify.pack(timm.create_model(name, num_classes=5), x, alpha=2, num_estimators=2), x)
    assert not any("batch_norm" in str(node.meta.get("op")) for node in fused.graphs["eval"].nodes)


def test_training_is_refused(tmp_path: Path) -> None:
    packed = packed_convs().train()
    with pytest.raises(packify.PackError, match="training mode"):
        packed.fuse()
    fused = packed.eval().fuse()
    with pytest.raises(packify.PackError, match="fused"):
        fused.train()
    with pytest.raises(packify.PackError, match="fused"):
        packify.save(fused, tmp_path / "fused")
    assert fused.eval() is fused
