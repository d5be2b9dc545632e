from __future__ import annotations

from typing import Any

import pytest
import torch

from packify.core.errors import SourceError
from packify.sources import Source, load_reference, rebuild, resolve


@pytest.mark.parametrize(
    ("name", "options", "kind", "args", "size"),
    [
        ("resnet18", {}, "timm", {}, (3, 224, 224)),
        ("resnet18", {"num_classes": 10, "in_chans": 1}, "timm", {"num_classes": 10, "in_chans": 1}, (1, 224, 224)),
        ("resnet18", {"input_size": (1, 32, 32)}, "timm", {"in_chans": 1}, (1, 32, 32)),
        ("timm:vit_tiny_patch16_224", {"input_size": (3, 64, 64)}, "timm", {"img_size": (64, 64)}, (3, 64, 64)),
        ("googlenet", {}, "torchvision", {}, (3, 224, 224)),
        ("torchvision:resnet18", {"num_classes": 10, "in_chans": 3}, "torchvision", {"num_classes": 10}, (3, 224, 224)),
        ("torchvision:vit_b_16", {"input_size": (3, 64, 64)}, "torchvision", {"image_size": 64}, (3, 64, 64)),
        ("torchvision:inception_v3", {}, "torchvision", {}, (3, 299, 299)),
        ("torchvision:fcn_resnet50", {"num_classes": 4}, "torchvision", {"num_classes": 4}, (3, 224, 224)),
        ("torchvision:r3d_18", {}, "torchvision", {}, (3, 16, 112, 112)),
        ("torchvision:fasterrcnn_mobilenet_v3_large_fpn", {}, "torchvision", {}, (3, 224, 224)),
        ("torchvision:regnet_y_400mf", {}, "torchvision", {}, (3, 224, 224)),
    ],
)
def test_registries(name: str, options: dict[str, Any], kind: str, args: dict[str, Any], size: tuple[int, ...]) -> None:
    reference = resolve(name, device="meta", **options)
    assert (reference.source.kind, dict(reference.source.args), reference.input_size) == (kind, args, size)
    assert all(tensor.is_meta for tensor in (*reference.model.parameters(), *reference.model.buffers()))
    again = rebuild(Source.from_dict(reference.source.to_dict()))
    assert {key: value.shape for key, value in again.state_dict().items()} == {
        key: value.shape for key, value in reference.model.state_dict().items()
    }


def test_load_reference_gives_the_network() -> None:
    model = load_reference("resnet18", num_classes=10, in_chans=3)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_unknown_names_list_the_closest() -> None:
    with pytest.raises(SourceError, match="did you mean resnet50"):
        resolve("resnet5O")
    with pytest.raises(SourceError, match="did you mean"):
        resolve("torchvision:resnet_50")


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("resnet18", {"args": {"pretrained": True}}, "without weights"),
        ("resnet18", {"args": {"checkpoint_path": "x.pth"}}, "without weights"),
        ("torchvision:resnet18", {"args": {"weights": "DEFAULT"}}, "without weights"),
        ("resnet18", {"args": {"nonsense": 1}}, "leave nonsense out"),
        ("resnet18", {"args": {"block": object()}}, "an argument is a number"),
        ("resnet18.nosuchtag", {}, "nosuchtag"),
        ("resnet18", {"num_classes": -1}, "at least 0"),
        ("resnet18", {"in_chans": 0}, "at least 1"),
        ("resnet18", {"input_size": (3, 0, 4)}, "shape of one input"),
        ("resnet18", {"input_size": (1, 32, 32), "in_chans": 3}, "the channel count"),
        ("torchvision:resnet18", {"in_chans": 1}, "3 input channels only"),
    ],
)
def test_refusals(name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(SourceError) as error:
        resolve(name, device="meta", **options)
    assert says in str(error.value)


def test_rebuild_never_runs_a_users_code() -> None:
    with pytest.raises(SourceError, match="never runs code"):
        rebuild(Source("module", "antigravity:fly"))
