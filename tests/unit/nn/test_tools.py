"""Tools of others on packed networks: summaries, profiles, attributions, adapters."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import packify

_VIT = {"img_size": 32, "depth": 2, "num_classes": 5}


def _packed(name: str) -> tuple[nn.Module, packify.PackedNetwork, Tensor]:
    torch.manual_seed(0)
    kwargs: dict[str, Any] = _VIT if name.startswith("vit") else {"num_classes": 5}
    model, x = timm.create_model(name, **kwargs).eval(), torch.randn(2, 3, 32, 32)
    return model, packify.pack(model, x, alpha=2, num_estimators=2).eval(), x


@pytest.mark.slow_cases("resnet18")
@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_torchinfo_sees_every_layer(name: str) -> None:
    torchinfo = pytest.importorskip("torchinfo")
    model, packed, x = _packed(name)
    own, reference = (torchinfo.summary(network, input_data=x, verbose=0) for network in (packed, model))
    named = [[layer.var_name for layer in summary.summary_list[1:]] for summary in (own, reference)]
    assert named[0] == named[1]
    assert own.total_params == sum(parameter.numel() for parameter in packed.parameters())


@pytest.mark.slow
def test_a_profile_names_the_modules() -> None:
    _, packed, x = _packed("resnet18")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], with_modules=True, record_shapes=True) as profile:
        packed(x)
    assert any(event.name == "aten::convolution" for event in profile.events())


@pytest.mark.parametrize(("name", "layer"), [("resnet18", "layer4"), ("vit_tiny_patch16_224", "blocks.1")])
def test_captum_attributes_to_layers(name: str, layer: str) -> None:
    attr = pytest.importorskip("captum.attr")
    _, packed, x = _packed(name)
    found = attr.LayerActivation(packed, packed.get_submodule(layer)).attribute(x)
    assert found.shape[0] in (2, 4)
    gradients = attr.LayerGradientXActivation(packed, packed.get_submodule(layer)).attribute(x, target=0)
    assert gradients.shape == found.shape


class _Adapted(nn.Module):
    """A low-rank adapter as peft puts it around a linear layer."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base, self.down, self.up = base, nn.Linear(base.in_features, 2, bias=False), nn.Linear(2, base.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.base(x) + self.up(self.down(x))
        return result


def test_an_adapter_for_one_network_is_refused() -> None:
    _, packed, x = _packed("vit_tiny_patch16_224")
    before, block = packed(x), packed.blocks[0].mlp
    with pytest.raises(packify.PackError, match="M = 2 times"):
        block.fc1 = _Adapted(block.fc1)
    assert torch.equal(packed(x), before)


def test_peft_is_refused_or_works() -> None:
    peft = pytest.importorskip("peft")
    _, packed, _ = _packed("vit_tiny_patch16_224")
    with pytest.raises(packify.PackError, match="M = 2 times"):
        peft.inject_adapter_in_model(peft.LoraConfig(r=2, target_modules=["fc1"]), packed)
