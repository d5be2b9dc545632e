"""Layouts of packed tensors as patterns a person reads: ``"b (m c) h w"``."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from packify.nn.members import FRONT

# What the axes of tensors are usually called, by their number, where channels are second and where they are last.
_SECOND = ("", "c", "b c", "b c l", "b c h w", "b c d h w")
_LAST = ("", "c", "b c", "b n c", "b h w c", "b d h w c")
_LETTERS = "abcdefghijklnopqrstuvwxyz"


@dataclass(frozen=True)
class Layout:
    """Where a tensor carries the members.

    Attributes:
        axis: the axis of which members are the outermost factor, `FRONT` for one of their own, None for a tensor that they share.
        shape: one member's shape, at the batch size of the recording.
        dtype: what it holds.
    """

    axis: int | None
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def pattern(self) -> str:
        """``"b (m c) h w"``, ``"(m b) n c"``, ``"m b c"``, ``"b c"``; the letters of other axes are the usual ones."""
        ndim = len(self.shape)
        usual = _SECOND if self.axis == 1 or (ndim == 4 and self.axis != 3) else _LAST
        axes = usual[ndim].split() if ndim < len(usual) else list(_LETTERS[:ndim])
        if self.axis == FRONT:
            axes.insert(0, "m")
        elif self.axis is not None:
            axes[self.axis] = f"(m {axes[self.axis]})"
        return " ".join(axes)

    def packed_shape(self, members: int) -> tuple[int, ...]:
        """The shape of the packed tensor."""
        if self.axis is None:
            return self.shape
        if self.axis == FRONT:
            return (members, *self.shape)
        return (*self.shape[: self.axis], members * self.shape[self.axis], *self.shape[self.axis + 1 :])
