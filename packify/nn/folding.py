"""Factors on a layer's input and output channels, multiplied into its weight: ``s * W (r * x)`` is ``(s W r) x``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Fold:
    """What is multiplied into one weight.

    Attributes:
        inputs, outputs: names of the tensors ``"m c"`` on the layer's input and output channels; None where there are none.
        transposed: the weight is a transposed conv's, ``"i o ..."``.
        groups: of the layer.
    """

    inputs: str | None
    outputs: str | None
    transposed: bool = False
    groups: int = 1

    def of_member(self, weight: Tensor, held: Callable[[str], Tensor], member: int) -> Tensor:
        """The weight of one member; `held` gives the factors by name."""
        rows, columns = (self.inputs, self.outputs) if self.transposed else (self.outputs, self.inputs)
        if columns is not None:
            weight = _on_second_axis(weight, held(columns).detach()[member], self.groups)
        if rows is not None:
            weight = weight * held(rows).detach()[member].to(weight.dtype).view(-1, *[1] * (weight.dim() - 1))
        return weight


def _on_second_axis(weight: Tensor, factors: Tensor, groups: int) -> Tensor:
    """``"(g a) b ..."`` times ``"(g b)"``: the second axis of a weight counts the channels of one group."""
    own = factors.to(weight.dtype).view(groups, 1, -1, *[1] * (weight.dim() - 2))
    made: Tensor = (weight.unflatten(0, (groups, -1)) * own).flatten(0, 1)
    return made
