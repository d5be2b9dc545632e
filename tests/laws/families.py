"""Pairs of published networks that are each other's next size: the same code, all widths and heads times one ratio."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import nn


@dataclass(frozen=True)
class Pair:
    """Two sizes of one family.

    Attributes:
        large, small: names in timm, or with ``torchvision:`` before them in torchvision.
        alpha, members: their ratio is that of the widths.
        settings: for both; depths are cut, so that a test is quick.
        size: of one input.
        heads: as the family does it.
    """

    large: str
    small: str
    alpha: float = 1
    members: int = 2
    settings: dict[str, Any] = field(default_factory=dict)
    size: tuple[int, ...] = (3, 224, 224)
    heads: str = "scale"

    def __str__(self) -> str:
        return f"{self.large} -> {self.small}"

    def build(self, name: str) -> nn.Module:
        """One of the two, in evaluation mode, with weights that are not all alike."""
        if name.startswith("torchvision:"):
            import torchvision

            model: nn.Module = torchvision.models.get_model(name.partition(":")[2], num_classes=10)
        else:
            model = self._from_timm(name)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():  # layer scales and norms start as constants, which would hide what they are applied to
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
        return model.eval()

    def _from_timm(self, name: str) -> nn.Module:
        """By timm's own builder, with the settings in place of the entry point's: some of those take no depths."""
        import timm

        module = sys.modules[timm.model_entrypoint(name).__module__]
        build = module.build_model_with_cfg

        def build_cut(cls: Any, variant: str, pretrained: bool, **settings: Any) -> nn.Module:
            made: nn.Module = build(cls, variant, pretrained, **{**settings, **self.settings})
            return made

        with mock.patch.object(module, "build_model_with_cfg", build_cut):
            return timm.create_model(name, num_classes=10)


_VIT = {"depth": 2}
_FOUR = {"depths": (1, 1, 2, 1)}
_SMALL = {"depth": 2, "img_size": 64}
_64 = (3, 64, 64)
_THREE_QUARTERS: dict[str, Any] = {"alpha": 1.5, "members": 2}
_TWO_THIRDS: dict[str, Any] = {"alpha": 2, "members": 3}

PAIRS = (
    Pair("vit_base_patch16_224", "vit_small_patch16_224", settings=_SMALL, size=_64),
    Pair("vit_small_patch16_224", "vit_tiny_patch16_224", settings=_SMALL, size=_64),
    Pair("vit_base_patch32_224", "vit_small_patch32_224", settings=_SMALL, size=_64),
    Pair("vit_base_patch8_224", "vit_small_patch8_224", settings=_SMALL, size=_64),
    Pair("vit_base_patch14_dinov2", "vit_small_patch14_dinov2", settings={"depth": 2, "img_size": 56}, size=(3, 56, 56)),
    Pair("vit_base_patch14_reg4_dinov2", "vit_small_patch14_reg4_dinov2", settings={"depth": 2, "img_size": 56}, size=(3, 56, 56)),
    Pair("deit_base_patch16_224", "deit_small_patch16_224", settings=_SMALL, size=_64),
    Pair("deit_small_patch16_224", "deit_tiny_patch16_224", settings=_SMALL, size=_64),
    Pair("deit_base_distilled_patch16_224", "deit_small_distilled_patch16_224", settings=_SMALL, size=_64),
    Pair("deit3_base_patch16_224", "deit3_small_patch16_224", settings=_SMALL, size=_64),
    Pair("deit3_medium_patch16_224", "deit3_small_patch16_224", settings=_SMALL, size=_64, **_THREE_QUARTERS),
    Pair("eva02_small_patch14_224", "eva02_tiny_patch14_224", settings={"depth": 2, "img_size": 56}, size=(3, 56, 56)),
    Pair("cait_s24_224", "cait_xxs24_224", settings=_SMALL, size=_64),
    Pair("cait_s24_224", "cait_xs24_384", settings=_SMALL, size=_64, **_THREE_QUARTERS),
    Pair("cait_xs24_384", "cait_xxs24_224", settings=_SMALL, size=_64, **_TWO_THIRDS),
    Pair("cait_m36_384", "cait_s36_384", settings=_SMALL, size=_64),
    Pair("xcit_small_12_p16_224", "xcit_tiny_12_p16_224", settings=_VIT, size=_64),
    Pair("xcit_large_24_p16_224", "xcit_small_24_p16_224", settings=_VIT, size=_64),
    Pair("crossvit_base_240", "crossvit_small_240", size=(3, 240, 240)),
    Pair("crossvit_small_240", "crossvit_tiny_240", size=(3, 240, 240)),
    Pair("tnt_b_patch16_224", "tnt_s_patch16_224", 1.2, 2, settings=_VIT),
    Pair("swin_large_patch4_window7_224", "swin_small_patch4_window7_224", settings=_FOUR),
    Pair("swin_base_patch4_window7_224", "swin_small_patch4_window7_224", settings=_FOUR, **_THREE_QUARTERS),
    Pair("davit_large", "davit_small", settings=_FOUR),
    Pair("davit_huge", "davit_base", settings=_FOUR),
    Pair("davit_base", "davit_small", settings=_FOUR, **_THREE_QUARTERS),
    Pair("gcvit_base", "gcvit_small", settings={"depths": (2, 2, 2, 2)}, **_THREE_QUARTERS),
    Pair("nest_base", "nest_small", settings={"depths": (1, 1, 2)}, **_THREE_QUARTERS),
    Pair("twins_svt_large", "twins_svt_base", settings=_FOUR, **_THREE_QUARTERS),
    Pair("pit_s_224", "pit_xs_224", settings={"depth": (1, 1, 1)}, **_TWO_THIRDS),
    Pair("pit_xs_224", "pit_ti_224", settings={"depth": (1, 1, 1)}, heads="keep", **_TWO_THIRDS),
    Pair("pvt_v2_b1", "pvt_v2_b0", size=_64, heads="keep"),
    Pair("mobilevitv2_100", "mobilevitv2_050", size=_64),
    Pair("mobilevitv2_200", "mobilevitv2_100", size=_64),
    Pair("convnext_large", "convnext_small", settings=_FOUR, size=_64),
    Pair("convnext_xlarge", "convnext_base", settings=_FOUR, size=_64),
    Pair("convnext_base", "convnext_small", settings=_FOUR, size=_64, **_THREE_QUARTERS),
    Pair("convnextv2_large", "convnextv2_base", settings=_FOUR, size=_64, **_TWO_THIRDS),
    Pair("focalnet_base_srf", "focalnet_small_srf", settings=_FOUR, size=_64, **_THREE_QUARTERS),
    Pair("inception_next_base", "inception_next_small", settings=_FOUR, size=_64, **_THREE_QUARTERS),
    Pair("mambaout_tiny", "mambaout_femto", settings=_FOUR, size=_64),
    Pair("resnetv2_50x3_bit", "resnetv2_50x1_bit", 1, 3, settings={"layers": (1, 1, 1, 1)}, size=_64),
    Pair("resnetv2_152x4_bit", "resnetv2_152x2_bit", settings={"layers": (1, 1, 1, 1)}, size=_64),
    Pair("torchvision:swin_b", "torchvision:swin_s", **_THREE_QUARTERS),
    Pair("torchvision:convnext_large", "torchvision:convnext_small", size=_64),
    Pair("torchvision:convnext_base", "torchvision:convnext_small", size=_64, **_THREE_QUARTERS),
)

NOT_PAIRS = {
    "swinv2_base_window8_256 -> swinv2_small_window8_256": "what makes its position biases is 512 wide in every size",
    "pit_s_224 -> pit_ti_224": "3 heads of 48 become 2 of 32: two steps, by way of pit_xs_224",
}
"""Sizes of one family that differ in more than a ratio, with what a member does not do."""
