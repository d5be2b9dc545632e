"""Masksembles against the reference with its layers' inputs multiplied by masks, and against the slim network that a member is alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

import packify
from packify.ensembles.methods import masks as drawing
from packify.ensembles.methods import masksembles as method
from packify.laws.observation import call, floating, relative
from tests.models import images
from tests.models.catalogue import CASES


class Residual(nn.Module):
    """A stem, two residual blocks and a head: what a block makes inside is read by it alone, the stream by all."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, width, 1)) for _ in range(2)
        )
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = torch.relu(x + block(x))
        return self.head(x.mean((2, 3)))


def _residual() -> nn.Module:
    torch.manual_seed(0)
    model = Residual().double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.bias)
    return model.eval()


def _masked(model: nn.Module, network: Any, member: int, x: Tensor) -> Tensor:
    """The reference on `x`, with hooks that multiply what masked layers read."""
    handles: list[RemovableHandle] = []
    for name, mask in network.masks.items():
        layer = model.get_submodule(name.rpartition(".")[0])
        own = mask[member] if isinstance(layer, nn.Linear) else mask[member].view(-1, 1, 1)
        handles.append(layer.register_forward_pre_hook(lambda _, args, own=own: (args[0] * own,)))
    try:
        output: Tensor = model(x)
        return output
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("scale", [1.0, 2.0, 3.5])
def test_members_are_the_masked_reference_and_their_slim_selves(scale: float) -> None:
    model, x = _residual(), torch.randn(2, 3, 6, 6).double()
    network = packify.masksembles(model, x, scale=scale).eval()
    outputs = network.members(x)
    for member in range(4):
        assert relative(outputs[member], _masked(model, network, member, x)) < 1e-12
        alone = network.extract(member)
        assert relative(outputs[member], alone(x)) < 1e-12
        assert sum(parameter.numel() for parameter in alone.parameters()) == network.report.member_params[member]
        assert not any("mask" in name for name, _ in alone.named_parameters())


def test_gradients_are_those_of_the_masked_reference() -> None:
    model, x = _residual(), torch.randn(2, 3, 6, 6).double()
    network = packify.masksembles(model, x, num_estimators=3)
    network.eval().members(x).sin().sum().backward()
    sum(_masked(model, network, member, x).sin().sum() for member in range(3)).backward()  # type: ignore[union-attr]
    for name, parameter in model.named_parameters():
        assert relative(network.get_parameter(name).grad, parameter.grad) < 1e-10
    assert all(not mask.requires_grad for mask in network.masks.values())


def test_a_slim_member_has_the_columns_of_its_masks_and_the_channels_that_are_read() -> None:
    model, x = _residual(), torch.randn(2, 3, 6, 6).double()
    network = packify.masksembles(model, x)
    for member in range(4):
        alone = network.extract(member)
        for name, mask in network.masks.items():
            weight = alone.get_parameter(f"{name.rpartition('.')[0]}.weight")
            assert weight.shape[1] == int(mask[member].sum())
        inner = int(network.masks["blocks.0.3.mask"][member].sum())
        assert alone.get_parameter("blocks.0.0.weight").shape[0] == inner == alone.get_submodule("blocks.0.1").num_features
        stream = {int(alone.get_parameter(name).shape[0]) for name in ("stem.weight", "norm.weight", "blocks.1.3.weight")}
        read = torch.stack([network.masks[name][member] for name in ("blocks.0.0.mask", "blocks.1.0.mask", "head.mask")]).any(0)
        assert stream == {int(read.sum())}


@pytest.mark.slow
def test_masks_are_seeded_buffers_that_move_with_the_network(tmp_path: Any) -> None:
    model, x = _residual(), torch.randn(2, 3, 6, 6).double()
    network = packify.masksembles(model, x, seed=3).eval()
    again = packify.masksembles(model, x, seed=3)
    assert all(torch.equal(mask, again.masks[name]) for name, mask in network.masks.items())
    other = packify.masksembles(model, x, seed=4)
    assert any(not torch.equal(mask, other.masks[name]) for name, mask in network.masks.items())
    packify.save(network, tmp_path / "net")
    loaded = packify.load(tmp_path / "net", model=_residual())
    assert torch.equal(loaded(x), network(x))
    packify.save_member(network, 2, tmp_path / "alone")
    assert relative(packify.load(tmp_path / "alone", model=_residual())(x), network.members(x)[2]) < 1e-12
    assert {mask.dtype for mask in network.half().masks.values()} == {torch.float16}
    assert "stem.mask" not in network.masks
    assert packify.verify(packify.masksembles(model, x, num_estimators=2)).equality < 1e-8


@pytest.mark.parametrize("masked", ["inputs", "outputs"])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("unet", "shuffles", "tied text", "vit", "tables", "reused") else pytest.mark.slow)
        for name, case in CASES.items()
        if not case.random and name not in ("last state", "einsums")
    ],
)
def test_members_are_the_extracted_networks(name: str, masked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (drawing, method):
        monkeypatch.setattr(module, "MIN_CHANNELS", 2)
    torch.manual_seed(0)
    case = CASES[name]
    model, x = case.build().eval(), case.inputs()
    network = packify.masksembles(model, x, num_estimators=2, masked=masked, average="mean").eval()
    outputs = floating(call(network.members, x))
    for member in range(2):
        assert (
            max(relative(both[member], one) for both, one in zip(outputs, floating(call(network.extract(member), x)), strict=True)) < 1e-4
        )


@pytest.mark.parametrize("layers", ["*", "[cf]*", "!fc1"])
def test_layers_of_few_channels_stay_unmasked_and_are_told(layers: Any) -> None:
    network = packify.masksembles(images.LeNet(), torch.randn(2, 1, 24, 24), layers=layers)
    assert "conv2.mask" not in network.masks
    (note,) = (note for note in network.report.left_out if note.node == "conv2")
    assert note.why.startswith("6 channels are too few for masks")


def test_layers_of_few_channels_that_are_named_or_alone_are_an_error() -> None:
    with pytest.raises(packify.SpecError, match="fewer than 10 channels: conv2 \\(6\\)") as caught:
        packify.masksembles(images.LeNet(), torch.randn(2, 1, 24, 24), layers=["conv2", "fc1"])
    assert "stay unmasked" in caught.value.fix
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    with pytest.raises(packify.SpecError, match="fewer than 10 channels: 2 \\(6\\), 4 \\(8\\)"):
        packify.masksembles(model, torch.randn(2, 4), average="mean")


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"num_estimators": 1}, "num_estimators (M)"),
        ({"scale": 0.5}, "scale"),
        ({"scale": 7}, "scale"),
        ({"masked": "both"}, "masked"),
        ({"layers": "nothing"}, "layers"),
        ({"layers": "stem"}, "layers"),
        ({"seed": -2}, "seed"),
    ],
)
def test_wrong_settings_are_one_clear_error(options: dict[str, Any], where: str) -> None:
    with pytest.raises(packify.SpecError) as caught:
        packify.masksembles(Residual(), torch.randn(2, 3, 6, 6), **options)
    assert caught.value.where == where
    assert caught.value.fix
