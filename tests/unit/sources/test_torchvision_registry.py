from __future__ import annotations

from typing import Any

import pytest
import torch
from torchvision import models

from packify.core.errors import SourceError
from packify.sources.registry import Wanted
from packify.sources.torchvision_registry import TorchvisionRegistry

_TORCHVISION = TorchvisionRegistry()


@pytest.mark.parametrize(
    ("name", "wanted", "arguments"),
    [
        ("resnet18", Wanted(), [{}]),
        ("resnet18", Wanted(10, 3), [{"num_classes": 10}]),
        ("vit_b_16", Wanted(None, None, (3, 32, 32)), [{"image_size": 32}, {"input_size": (32, 32)}, {}]),
        ("maxvit_t", Wanted(5, None, (3, 64, 32)), [{"num_classes": 5, "input_size": (64, 32)}, {"num_classes": 5}]),
    ],
)
def test_what_is_wanted_in_torchvisions_words(name: str, wanted: Wanted, arguments: list[dict[str, Any]]) -> None:
    assert _TORCHVISION.arguments(name, wanted) == arguments


def test_other_channels_cannot_be_had() -> None:
    with pytest.raises(SourceError, match="3 input channels only"):
        _TORCHVISION.arguments("resnet18", Wanted(None, 1))


def test_neither_network_nor_trunk_has_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(models, "get_model", lambda name, **args: seen.append(args) or torch.nn.Identity())
    _TORCHVISION.build("resnet18", {})
    _TORCHVISION.build("fcn_resnet50", {"num_classes": 3})
    assert seen == [{"weights": None}, {"weights": None, "weights_backbone": None, "num_classes": 3}]


@pytest.mark.parametrize(
    ("name", "size"),
    [("resnet18", (3, 224, 224)), ("inception_v3", (3, 299, 299)), ("r3d_18", (3, 16, 112, 112)), ("fcn_resnet50", (3, 224, 224))],
)
def test_published_sizes(name: str, size: tuple[int, ...]) -> None:
    assert _TORCHVISION.input_size(name) == size
