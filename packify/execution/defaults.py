"""The strategy and the memory format of a packed network that nobody has tuned: rules, and the measurements that they come from.

On a CPU a grouped conv is one call of oneDNN for all members, which blocks its memory well only for some widths; a conv of one member
always is, but is small. So members in turn win as soon as there is enough to do in one call, and grouped kernels where there is not: at a
batch of one small image, where most of a call is the reordering of weights. Channels last suits convs that are not depthwise.

`MEASURED` holds times relative to the single network run contiguously, (2, 4, 1), float32, one thread of an AVX2 CPU;
``packify bench`` measures the same elsewhere, and ``packed.tune(x)`` decides by measurement. On other devices nothing has been
measured yet: there the members run grouped, in the reference's memory format.

Where the border lies was measured with ResNet-18 on images of 32 pixels, by CPU time on a machine that was busy otherwise, forward,
channels last, relative to the single network: at a batch of 2 grouped 1.05 and in turn 1.28, at 4 1.18 and 1.08, at 8 1.24 and 1.13, at 16
1.17 and 1.08.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LEAST_ROWS = 4096
"""Positions of the input, over the whole batch, from which on members run in turn on a CPU."""


@dataclass(frozen=True)
class Measured:
    """One line of measurements, forward and forward + backward.

    Attributes:
        network: by name, with the input that it was given.
        shape: of the input.
        grouped, grouped_cl, in_turn, in_turn_cl: relative to the single network; ``cl`` is channels last.
    """

    network: str
    shape: tuple[int, ...]
    grouped: tuple[float, float]
    grouped_cl: tuple[float, float]
    in_turn: tuple[float, float]
    in_turn_cl: tuple[float, float]


MEASURED = (
    Measured("resnet18", (32, 3, 32, 32), (1.29, 1.28), (1.01, 1.14), (1.07, 1.06), (0.81, 1.00)),
    Measured("resnet50", (16, 3, 32, 32), (2.28, 1.60), (1.13, 1.43), (1.12, 1.20), (0.90, 1.09)),
    Measured("resnet50", (4, 3, 224, 224), (1.38, 1.38), (1.18, 1.22), (1.25, 1.31), (1.04, 0.99)),
    Measured("mobilenetv3_large_100", (8, 3, 224, 224), (1.90, 2.11), (2.08, 1.66), (1.81, 1.87), (1.83, 1.43)),
    Measured("convnext_tiny", (4, 3, 128, 128), (1.51, 1.79), (1.49, 1.52), (1.31, 1.41), (1.34, 1.39)),
    Measured("vit_tiny_patch16_224", (8, 3, 224, 224), (1.63, 1.47), (1.55, 1.52), (1.46, 1.52), (1.58, 1.57)),
    Measured("resnet18", (1, 3, 32, 32), (1.27, 1.20), (1.13, 1.27), (1.58, 1.46), (1.38, 1.24)),
)


def default_strategy(device: torch.device, inputs: Sequence[Tensor]) -> str:
    """The strategy of a call that nothing was measured for."""
    return default_for_shapes(device, [tuple(one.shape) for one in inputs])


def default_for_shapes(device: torch.device, shapes: Sequence[tuple[int, ...]]) -> str:
    """The same, by the shapes of the inputs."""
    if device.type != "cpu":
        return "grouped"
    return "in turn" if max(map(_rows, shapes), default=0) >= LEAST_ROWS else "grouped"


def _rows(shape: tuple[int, ...]) -> int:
    """Positions of an input: batch times pixels of images ``"b c h w"``, batch times tokens of ``"b n c"`` and ``"b n"``."""
    if len(shape) > 3:
        return shape[0] * math.prod(shape[2:])
    return math.prod(shape[:2] if len(shape) == 3 else shape[:1])
