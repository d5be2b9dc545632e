from __future__ import annotations

from typing import Any

import pytest
import torch

from packify.sources.registry import Wanted
from packify.sources.timm_registry import TimmRegistry

_TIMM = TimmRegistry()


@pytest.mark.parametrize(
    ("wanted", "arguments"),
    [
        (Wanted(), [{}]),
        (Wanted(10, 3), [{"num_classes": 10}]),
        (Wanted(None, 1), [{"in_chans": 1}]),
        (Wanted(None, None, (3, 224, 224)), [{}]),
        (Wanted(None, 1, (1, 32, 48)), [{"in_chans": 1, "img_size": (32, 48)}, {"in_chans": 1}]),
    ],
)
def test_what_is_wanted_in_timms_words(wanted: Wanted, arguments: list[dict[str, Any]]) -> None:
    assert _TIMM.arguments("resnet18", wanted) == arguments


def test_networks_are_built_without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    seen: list[Any] = []
    monkeypatch.setattr(timm, "create_model", lambda name, **args: seen.append((name, args)) or torch.nn.Identity())
    _TIMM.build("resnet18", {"num_classes": 3})
    assert seen == [("resnet18", {"pretrained": False, "num_classes": 3})]
    monkeypatch.setattr(timm, "create_model", lambda name, **args: "no network")
    with pytest.raises(TypeError, match="timm built a str"):
        _TIMM.build("resnet18", {})


@pytest.mark.parametrize(("name", "size"), [("resnet18", (3, 224, 224)), ("vit_base_patch16_384", (3, 384, 384))])
def test_published_sizes(name: str, size: tuple[int, ...]) -> None:
    assert _TIMM.input_size(name) == size
