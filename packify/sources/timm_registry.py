"""timm's architectures by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
from torch import nn

from packify.sources.registry import Wanted

_DEFAULT_SIZE = (3, 224, 224)


class TimmRegistry:
    """timm, asked only for architectures: `pretrained` is always False."""

    def names(self) -> list[str]:
        return list(timm.list_models())

    def knows(self, name: str) -> bool:
        return bool(timm.is_model(name))

    def arguments(self, name: str, wanted: Wanted) -> list[dict[str, Any]]:
        published = self.input_size(name)
        plain: dict[str, Any] = {}
        if wanted.num_classes is not None:
            plain["num_classes"] = wanted.num_classes
        if wanted.in_chans is not None and wanted.in_chans != published[0]:
            plain["in_chans"] = wanted.in_chans
        if wanted.input_size is None or len(wanted.input_size) != 3 or wanted.input_size[1:] == published[1:]:
            return [plain]
        # Networks with a position embedding are built for one size, the others take any.
        return [{**plain, "img_size": wanted.input_size[1:]}, plain]

    def build(self, name: str, args: Mapping[str, Any]) -> nn.Module:
        model = timm.create_model(name, pretrained=False, **args)
        if not isinstance(model, nn.Module):
            raise TypeError(f"timm built a {type(model).__name__}")
        return model

    def input_size(self, name: str) -> tuple[int, ...]:
        published = timm.get_pretrained_cfg(name)
        return tuple(published.input_size) if published is not None else _DEFAULT_SIZE
