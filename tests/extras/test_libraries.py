"""Networks of libraries that packify does not depend on: they run where these are installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import packify

_SPECS = ({"alpha": 2, "num_estimators": 4}, {"alpha": 1.5, "num_estimators": 3})


def _halves(build: Callable[[], nn.Module], inputs: Any, most: float, *, verify: bool = True) -> None:
    """It converts at both ratios, keeps the laws, and shrinks at alpha / M = 1/2."""
    torch.manual_seed(0)
    for spec in _SPECS:
        packed = packify.pack(build(), inputs, **spec)
        assert packed.report.member_params <= most * packed.report.reference_params, str(packed.report)
    if verify:
        packify.verify(packed, inputs, train=False)


@pytest.mark.parametrize(
    "name", ["Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PAN", "DeepLabV3", "DeepLabV3Plus", "UPerNet", "Segformer"]
)
def test_segmentation_decoders(name: str) -> None:
    library = pytest.importorskip("segmentation_models_pytorch")
    _halves(lambda: getattr(library, name)("resnet18", encoder_weights=None, classes=4), torch.randn(2, 3, 128, 128), 0.3, verify=False)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("UNet", (2, 1, 3, (16, 32, 64), (2, 2))),
        ("UNet", (3, 1, 3, (8, 16, 32), (2, 2))),
        ("BasicUNet", (2, 1, 3, (32, 32, 64, 64, 64, 32))),
        ("DynUNet", (2, 1, 3, [3, 3, 3], [1, 2, 2], [2, 2])),
        ("SegResNet", (2, 16, 1, 3)),
        ("VNet", (3, 1, 3)),
        ("AttentionUnet", (2, 1, 3, (16, 32, 64), (2, 2))),
        ("HighResNet", (2, 1, 3)),
        ("DenseNet", (2, 1, 3, 16, 8, (2, 2))),
    ],
)
def test_medical_networks(name: str, arguments: tuple[Any, ...]) -> None:
    nets = pytest.importorskip("monai.networks.nets")
    _halves(
        lambda: getattr(nets, name)(*arguments), torch.randn(2, 1, *[16 if arguments[0] == 3 else 32] * arguments[0]), 0.4, verify=False
    )


_SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


@pytest.mark.parametrize(
    ("name", "config", "settings", "most"),
    [
        ("BertForSequenceClassification", "BertConfig", {**_SMALL, "vocab_size": 99}, 0.45),
        (
            "GPT2LMHeadModel",
            "GPT2Config",
            {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 99, "n_positions": 16, "use_cache": False},
            0.4,
        ),
        ("LlamaForCausalLM", "LlamaConfig", {**_SMALL, "vocab_size": 99, "num_key_value_heads": 2, "use_cache": False}, 0.4),
    ],
)
def test_language_models(name: str, config: str, settings: dict[str, Any], most: float) -> None:
    library = pytest.importorskip("transformers")
    inputs = {"input_ids": torch.randint(0, 99, (2, 8)), "attention_mask": torch.ones(2, 8, dtype=torch.long)}
    _halves(lambda: getattr(library, name)(getattr(library, config)(**settings)), inputs, most)


@pytest.mark.parametrize(
    ("name", "config", "settings"),
    [
        ("ViTForImageClassification", "ViTConfig", {**_SMALL, "image_size": 32, "patch_size": 8}),
        (
            "SwinForImageClassification",
            "SwinConfig",
            {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "image_size": 32, "patch_size": 2, "window_size": 4},
        ),
        ("ConvNextForImageClassification", "ConvNextConfig", {"hidden_sizes": [16, 32], "depths": [1, 1], "num_stages": 2}),
    ],
)
def test_vision_models(name: str, config: str, settings: dict[str, Any]) -> None:
    library = pytest.importorskip("transformers")
    _halves(
        lambda: getattr(library, name)(getattr(library, config)(**settings, num_labels=5)), {"pixel_values": torch.randn(2, 3, 32, 32)}, 0.4
    )
