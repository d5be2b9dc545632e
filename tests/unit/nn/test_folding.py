"""A weight with factors folded in does what factors around the layer do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from packify.nn.folding import Fold


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(4, 6, bias=False), (2, 4)),
        (nn.Conv2d(4, 6, 3, bias=False), (2, 4, 5, 5)),
        (nn.Conv2d(4, 6, 3, groups=2, bias=False), (2, 4, 5, 5)),
        (nn.Conv1d(4, 4, 3, groups=4, bias=False), (2, 4, 5)),
        (nn.ConvTranspose2d(4, 6, 3, bias=False), (2, 4, 5, 5)),
        (nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False), (2, 4, 5, 5)),
    ],
    ids=str,
)
@pytest.mark.parametrize("which", [("r", "s"), ("r", None), (None, "s")])
def test_factors_are_folded_into_the_weight(layer: Any, shape: tuple[int, ...], which: tuple[str | None, str | None]) -> None:
    inputs, outputs = which
    layer, x = layer.double(), torch.randn(shape).double()
    held = {"r": torch.rand(3, 4).double() + 0.5, "s": torch.rand(3, layer(x).shape[1]).double() + 0.5}
    fold = Fold(inputs, outputs, isinstance(layer, nn.ConvTranspose2d), getattr(layer, "groups", 1))

    def along(factors: Tensor) -> Tensor:
        return factors.view(-1, *[1] * (x.dim() - 2))

    for member in range(3):
        wanted = layer(x * along(held["r"][member]) if inputs else x)
        wanted = wanted * along(held["s"][member]) if outputs else wanted
        weight = layer.weight.detach().clone()
        own = torch.func.functional_call(layer, {"weight": fold.of_member(weight, held.__getitem__, member)}, (x,))
        torch.testing.assert_close(own, wanted)
        assert torch.equal(weight, layer.weight)


def test_factors_take_the_weights_dtype() -> None:
    weight = torch.randn(6, 4, dtype=torch.bfloat16)
    made = Fold("r", None).of_member(weight, lambda _: torch.ones(1, 4), 0)
    assert made.dtype == torch.bfloat16
    assert torch.equal(made, weight)
