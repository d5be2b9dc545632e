"""The law of signal: fresh members carry signals as networks of their width do that the reference's own code builds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import packify
from packify.cli import app
from packify.sources import resolve

SPECS = {
    "half": {"alpha": 2, "num_estimators": 4},
    "gamma": {"alpha": 2, "num_estimators": 4, "gamma": 2},
    "quarter": {"alpha": 1, "num_estimators": 4},
}


def signal_of(name: str, size: int, **settings: Any) -> packify.Signal:
    torch.manual_seed(0)
    reference = resolve(name, input_size=(3, size, size), num_classes=10)
    packed = packify.pack(reference.model, reference.example(2), min_channels_per_group=1, **settings)
    return packify.signal(packed, reference.model, batch=16)


@pytest.mark.slow
@pytest.mark.quick_cases(1)
@pytest.mark.parametrize("spec", ["half", "gamma"])
@pytest.mark.parametrize(
    ("name", "size"), [("resnet10t", 32), ("test_nfnet", 32), ("test_efficientnet", 64), ("torchvision:regnet_x_400mf", 32)]
)
def test_schemes_by_fans_keep_signals(name: str, size: int, spec: str) -> None:
    found = signal_of(name, size, **SPECS[spec])
    assert len(found.layers) > 8
    assert not found.outside, str(found)


@pytest.mark.slow
@pytest.mark.quick_cases(1)
@pytest.mark.parametrize(
    ("name", "size", "spec", "exceptions"),
    [
        ("test_nfnet", 32, "quarter", set()),
        # a stem of a few channels has the standard deviation of a few draws
        ("resnet10t", 32, "quarter", {"conv1.0"}),
        # drawn with one standard deviation whatever the width, 0.01: the code itself would build such heads at a quarter of the width
        ("test_efficientnet", 64, "quarter", {"classifier", "output"}),
        ("torchvision:mobilenet_v3_small", 64, "half", {"classifier.3", "output", "features.1.block.1.fc2"}),
        ("torchvision:regnet_x_400mf", 32, "quarter", {"stem.0", "fc", "output"}),
    ],
)
def test_every_exception_is_known(name: str, size: int, spec: str, exceptions: set[str]) -> None:
    found = signal_of(name, size, **SPECS[spec])
    assert {layer.name for layer in found.outside} <= exceptions, str(found)
    assert all(1 / 4 < layer.ratio < 4 for layer in found.outside)


@pytest.mark.slow
@pytest.mark.quick_cases(1)
@pytest.mark.parametrize("name", ["nf_resnet26", "test_nfnet"])
def test_numbers_that_stay_break_the_law(name: str) -> None:
    """Without the numbers that follow their widths the signal dies: the test can fail."""
    kept = signal_of(name, 32, alpha=1, num_estimators=4, constants="keep")
    assert kept.outside
    worst = kept.worst
    assert worst is not None
    assert worst.ratio < 0.4


class Fixed(nn.Module):
    """Initial weights of one standard deviation whatever the width, as in most transformers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem, self.norm = nn.Linear(9, width), nn.LayerNorm(width)
        self.up, self.down, self.out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width), nn.Linear(width, 3)
        for layer in (self.up, self.down):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.out(x + self.down(torch.relu(self.up(self.norm(x)))))


@pytest.mark.parametrize("ratio", [2, 4])
def test_a_member_is_like_the_network_that_its_code_builds(ratio: int) -> None:
    """A fixed standard deviation gives a branch of half the signal at half the width: in the smaller network as in the member."""
    torch.manual_seed(0)
    wide, narrow = Fixed(128), Fixed(128 // ratio)
    packed = packify.pack(wide, torch.randn(2, 9), alpha=1, num_estimators=ratio)
    against_the_wide, against_the_narrow = packify.signal(packed, wide, batch=256), packify.signal(packed, narrow, batch=256)
    ratios = {layer.name: layer.ratio for layer in against_the_wide.layers}
    assert math.isclose(ratios["down"], 1 / ratio, rel_tol=0.15)
    for layer in (*against_the_narrow.layers, *against_the_narrow.outputs):
        assert math.isclose(layer.ratio, 1, rel_tol=0.15), layer


@pytest.mark.parametrize(
    ("large", "small"), [("vit_base_patch32_224", "vit_small_patch32_224"), ("deit_small_patch16_224", "deit_tiny_patch16_224")]
)
@pytest.mark.slow
def test_the_familys_next_size(large: str, small: str) -> None:
    torch.manual_seed(0)
    references = [resolve(name, input_size=(3, 64, 64), num_classes=1000) for name in (large, small)]
    packed = packify.pack(references[0].model, references[0].example(2), alpha=1, num_estimators=2)
    found = packify.signal(packed, references[1].model, batch=32)
    assert len(found.layers) > 50
    for layer in (*found.layers, *found.outputs):
        if layer.kind != "scaled_dot_product_attention":  # a mean over tokens: a few numbers decide it
            assert math.isclose(layer.ratio, 1, rel_tol=0.1), layer


def test_nothing_is_changed() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5), nn.Flatten(), nn.Linear(8 * 36, 4)).eval()
    packed = packify.pack(model, torch.randn(2, 3, 8, 8), alpha=1, num_estimators=2)
    before = {name: tensor.clone() for network in (model, packed) for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    first, second = (packify.signal(packed, model) for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in packed.state_dict().items())
    assert not model.training
    assert not packed.training
    assert not any(name.startswith("_constant") for name, _ in model.named_buffers())


def test_another_network_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))
    packed = packify.pack(model, torch.randn(2, 4), alpha=1, num_estimators=2)
    with pytest.raises(packify.PackError, match="the reference that"):
        packify.signal(packed, nn.Sequential(nn.ReLU()))


@pytest.mark.slow
def test_the_table_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--num-classes", "4", "--input-size", "3x32x32", "--alpha", "2", "--M", "2", "--no-verify", "--out", "net")
    assert CliRunner().invoke(app, ["convert", "resnet10t", *options, "--init", "reset", "--constants", "keep"]).exit_code == 0
    shown = CliRunner().invoke(app, ["verify", "net", "--signal"])
    assert shown.exit_code == 0, shown.output
    for part in ("layer4.0.conv2", "member std", "within a factor of 2"):
        assert part in shown.stdout
    document = json.loads(CliRunner().invoke(app, ["verify", "net", "--signal", "--json"]).stdout)
    assert {"name", "kind", "reference", "member"} <= set(document["signal"]["layers"][0])
