"""What is measured: networks, numbers of a Packed-Ensemble, batches, modes and threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import timm
import torch
from torch import nn

from examples.segmentation import UNet


def _timm(name: str, size: int = 224, *, small_stem: bool = False) -> Callable[[], tuple[nn.Module, torch.Tensor]]:
    def build() -> tuple[nn.Module, torch.Tensor]:
        model = timm.create_model(name, num_classes=10 if size < 64 else 1000)
        if small_stem:
            model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
        return model.eval(), torch.randn(2, 3, size, size)

    return build


def _mlp() -> tuple[nn.Module, torch.Tensor]:
    layers = [nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)]
    return nn.Sequential(*layers).eval(), torch.randn(2, 64)


def _unet() -> tuple[nn.Module, torch.Tensor]:
    return UNet(32).eval(), torch.randn(2, 1, 64, 64)


NETWORKS: dict[str, Callable[[], tuple[nn.Module, torch.Tensor]]] = {
    "mlp": _mlp,
    "resnet18_32": _timm("resnet18", 32, small_stem=True),
    "resnet18_32_plain_stem": _timm("resnet18", 32),
    "unet_64": _unet,
    "resnet50_32": _timm("resnet50", 32, small_stem=True),
    "vit_tiny": _timm("vit_tiny_patch16_224"),
    "mobilenetv3_large": _timm("mobilenetv3_large_100"),
    "resnet18_224": _timm("resnet18"),
    "resnet50_224": _timm("resnet50"),
    "vit_small": _timm("vit_small_patch16_224"),
    "swin_tiny": _timm("swin_tiny_patch4_window7_224"),
    "convnext_tiny": _timm("convnext_tiny"),
}
"""Each with an example of two samples, the small ones first."""
SPECS: tuple[tuple[float, int, int], ...] = ((2, 4, 1), (2, 4, 2), (1.5, 8, 1))
BATCHES: dict[str, tuple[int, ...]] = {"cpu": (1, 16, 64), "cuda": (64, 256)}
"""By the type of the device."""
MODES = ("infer", "train")


@dataclass(frozen=True)
class Cell:
    """One measurement: all contenders of one network by turns.

    Attributes:
        network: by name.
        spec: alpha, M and gamma.
        mode: ``"infer"`` or ``"train"``.
        batch: samples of a call.
        threads: of torch; 0 on a GPU.
    """

    network: str
    spec: tuple[float, int, int]
    mode: str
    batch: int
    threads: int

    @property
    def label(self) -> str:
        """Without spaces, for patterns: ``vit_tiny/2-4-1/infer/16/1``."""
        return "/".join([self.network, "-".join(f"{one:g}" for one in self.spec), self.mode, str(self.batch), str(self.threads)])


def cells(threads: Sequence[int], device: str = "cpu") -> Iterator[Cell]:
    """All, those of one network and one spec together, so that it is packed once."""
    for spec in SPECS:
        for network in NETWORKS:
            for count in threads:
                for mode in MODES:
                    for batch in BATCHES[device]:
                        one_value = network == "resnet18_32_plain_stem" and mode == "train" and batch == 1
                        if not one_value:  # for each channel, of which there are no statistics
                            yield Cell(network, spec, mode, batch, count)
