"""Schemes that a tensor may be drawn by, and drawing from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

Distribution = Literal["normal", "truncated", "uniform", "constant", "copied", "orthogonal", "identity"]

# Standard deviation of a unit normal cut at two standard deviations.
TRUNCATED_STD = 0.8796
_GAIN_NAMES = {1 / 3: "1/3", 25 / 9: "25/9", 2 / 3: "2/3"}


@dataclass(frozen=True)
class Scheme:
    """How a tensor is drawn.

    Attributes:
        distribution: ``"normal"``, ``"truncated"`` (at two standard deviations), ``"uniform"``, ``"constant"`` (every element is the
            mean), ``"orthogonal"``, ``"identity"`` (of convs: in the middle of the kernel), or ``"copied"`` (the leading part of the
            reference's tensor, repeated where the member is larger).
        mean: of its elements.
        std: of its elements, where no size decides it.
        gain, role: otherwise their variance is ``gain`` over the size of this role, such as ``"fan_in"``.
        why: for what is copied.
    """

    distribution: Distribution
    mean: float = 0.0
    std: float = 0.0
    gain: float = 0.0
    role: str = ""
    why: str = ""

    @property
    def name(self) -> str:
        """For the report: ``"uniform, variance 1/3 / fan_in"``, ``"normal, std 0.02"``, ``"constant 1"``."""
        if self.distribution == "constant":
            return f"constant {self.mean:g}"
        if self.distribution == "copied":
            return f"copied: {self.why}"
        if self.distribution in ("orthogonal", "identity"):
            return f"{self.distribution}, gain {self.gain:.3g}"
        mean = f"mean {self.mean:.3g}, " if self.mean else ""
        if self.role:
            return f"{self.distribution}, {mean}variance {_GAIN_NAMES.get(self.gain, f'{self.gain:.3g}')} / {self.role}"
        return f"{self.distribution}, {mean}std {self.std:.3g}"

    def std_at(self, sizes: Mapping[str, float]) -> float:
        """The standard deviation at a tensor's sizes by role."""
        return math.sqrt(self.gain / sizes[self.role]) if self.role else self.std


FROZEN = Scheme("copied", why="it is frozen")
UNDEFINED = Scheme("copied", why="it holds infinite or undefined numbers")
ORDERED = Scheme("copied", why="its values are ordered, not drawn")
WRITTEN = Scheme("copied", why="its few different values are written, not drawn")


def draw(shape: tuple[int, ...], scheme: Scheme, sizes: Mapping[str, float], dtype: torch.dtype = torch.float32) -> Tensor:
    """A new tensor on the CPU, from torch's global generator.

    Args:
        shape: of the tensor.
        scheme: any but ``"copied"``.
        sizes: the tensor's sizes by role.
        dtype: of the tensor; half precision is drawn in float32.
    """
    if dtype.is_complex:
        part = replace(scheme, mean=0.0)
        real, imaginary = (draw(shape, part, sizes, dtype.to_real()).to(dtype.to_real()) for _ in range(2))
        return torch.complex(real + scheme.mean, imaginary)
    if scheme.distribution == "constant":
        return torch.full(shape, scheme.mean, dtype=dtype, device="cpu")
    new = torch.empty(shape, dtype=torch.float64 if dtype == torch.float64 else torch.float32, device="cpu")
    if scheme.distribution == "orthogonal":
        return nn.init.orthogonal_(new, scheme.gain).to(dtype)
    if scheme.distribution == "identity":
        return identity(new).mul_(scheme.gain).to(dtype)
    std = scheme.std_at(sizes)
    if scheme.distribution == "uniform":
        new.uniform_(scheme.mean - math.sqrt(3) * std, scheme.mean + math.sqrt(3) * std)
    elif scheme.distribution == "truncated" and std:
        cut = std / TRUNCATED_STD
        nn.init.trunc_normal_(new, scheme.mean, cut, scheme.mean - 2 * cut, scheme.mean + 2 * cut)
    else:
        new.normal_(scheme.mean, std)
    return new.to(dtype)


def identity(tensor: Tensor) -> Tensor:
    """Fill the weight of a layer that gives what it is given; of a conv, in the middle of the kernel."""
    middle = tensor.zero_()
    for size in tensor.shape[2:]:
        middle = middle.select(2, size // 2)
    middle.fill_diagonal_(1)
    return tensor
