"""torchvision's architectures by name: classification, segmentation, video, detection."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn
from torchvision import models

from packify.core.errors import SourceError
from packify.sources.registry import Published, Wanted

_CHANNELS, _FRAMES, _PIXELS = 3, 16, 224


class TorchvisionRegistry:
    """torchvision, asked only for architectures: every `weights` argument is None."""

    def names(self) -> list[str]:
        return list(models.list_models())

    def knows(self, name: str) -> bool:
        return name in models.list_models()

    def arguments(self, name: str, wanted: Wanted) -> list[dict[str, Any]]:
        if wanted.in_chans not in (None, _CHANNELS):
            raise SourceError(
                f"torchvision:{name}",
                found=f"{wanted.in_chans} input channels wanted",
                why=f"torchvision's builders make networks of {_CHANNELS} input channels only",
                fix=f"leave --in-chans out, use timm's {name} if there is one, or write a factory: path/to/file.py:factory",
            )
        plain: dict[str, Any] = {} if wanted.num_classes is None else {"num_classes": wanted.num_classes}
        published = self.input_size(name)
        size = published[-2:] if wanted.input_size is None else wanted.input_size[-2:]
        if len(wanted.input_size or published) != 3 or size == (_PIXELS, _PIXELS):
            return [plain]
        spellings: list[dict[str, Any]] = [{"input_size": size}]
        if size[0] == size[1]:
            spellings.insert(0, {"image_size": size[0]})
        return [*({**plain, **spelling} for spelling in spellings), plain]

    def build(self, name: str, args: Mapping[str, Any]) -> nn.Module:
        parameters = inspect.signature(models.get_model_builder(name)).parameters
        # Trunks fetch weights of their own unless told not to.
        no_weights = {key: None for key in ("weights", "weights_backbone") if key in parameters}
        model = models.get_model(name, **no_weights, **args)
        if not isinstance(model, nn.Module):
            raise TypeError(f"torchvision built a {type(model).__name__}")
        return model

    def pretrained(self, name: str, args: Mapping[str, Any]) -> Published:
        raise SourceError(
            f"torchvision:{name}",
            found="--pretrained",
            why="packify asks only timm for published weights",
            fix=f"pass timm:{name}, or a factory that loads them: path/to/file.py:factory",
        )

    def input_size(self, name: str) -> tuple[int, ...]:
        crop = getattr(models.get_model_weights(name).DEFAULT.transforms, "keywords", None) or {}
        pixels = crop.get("crop_size", _PIXELS)
        height, width = pixels if isinstance(pixels, (tuple, list)) else (pixels, pixels)
        if ".video." in f"{models.get_model_builder(name).__module__}.":
            return (_CHANNELS, _FRAMES, height, width)
        return (_CHANNELS, height, width)
