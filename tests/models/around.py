"""Networks around one operator: layers with weights before and after it, so that members differ and widths flow through."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

WIDTH = 8
_INPUTS = {"image": (3, 3, 6, 6), "last": (3, 6, 5), "batch": (3, 6, 5), "vector": (3, 5)}


class Own(nn.Module):
    """Parameters, buffers and layers for an operator to use."""

    def __init__(self, last: int) -> None:
        super().__init__()
        self.channels = nn.Parameter(torch.randn(WIDTH))
        self.other = nn.Parameter(torch.randn(WIDTH))
        self.square = nn.Parameter(torch.randn(WIDTH, WIDTH))
        self.scalar, self.one = nn.Parameter(torch.tensor(0.7)), nn.Parameter(torch.tensor([0.7]))
        self.map = nn.Parameter(torch.randn(1, WIDTH, 1, 1))
        self.positions = nn.Parameter(torch.randn(1, last, WIDTH))
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.kernel = nn.Parameter(torch.randn(WIDTH, WIDTH, 3, 3))
        self.line = nn.Parameter(torch.randn(WIDTH, WIDTH, 3))
        self.table = nn.Parameter(torch.randn(7, WIDTH))
        self.register_buffer("index", torch.tensor([3, 0, 2]))


class Around(nn.Module):
    """``before``, the operator, ``after``.

    Args:
        function: takes the features, a second tensor like them, and an `Own`.
        context: ``"image"`` (features ``b c h w``, channels in front), ``"last"`` and ``"batch"`` (``b n c``), ``"vector"`` (``b c``).
    """

    def __init__(self, function: Callable[[Tensor, Tensor, Any], Any], context: str) -> None:
        super().__init__()
        self.function, self.context = function, context
        shape = _INPUTS[context]
        layer: Callable[[int], nn.Module] = (
            (lambda inp: nn.Conv2d(inp, WIDTH, 1)) if context == "image" else (lambda inp: nn.Linear(inp, WIDTH))
        )
        inp = shape[1] if context == "image" else shape[-1]
        self.first, self.second = layer(inp), layer(inp)
        self.third = layer(WIDTH) if context == "batch" else nn.Identity()
        self.own = Own(shape[1])
        with torch.no_grad():
            found = self.features(torch.rand(shape))
        self.after = (
            nn.Conv2d(found.shape[1], 4, 1)
            if found.dim() == 4
            else nn.Conv3d(found.shape[1], 4, 1)
            if found.dim() == 5
            else nn.Linear(found.shape[-1], 4)
        )

    def features(self, x: Tensor) -> Tensor:
        out = self.function(self.third(self.first(x)), self.third(self.second(x)), self.own)
        return torch.as_tensor(out)

    def forward(self, x: Tensor) -> Tensor:
        out = self.function(self.third(self.first(x)), self.third(self.second(x)), self.own)
        out = self.after(out.to(x.dtype))
        return out.flatten(2).mean(2) if out.dim() > 3 else out.mean(1) if out.dim() == 3 else out


def inputs(context: str) -> Tensor:
    """An input for a context."""
    return torch.randn(_INPUTS[context], generator=torch.Generator().manual_seed(1))


def twin(model: nn.Module) -> Callable[[], nn.Module]:
    """Builds copies of a model."""
    return lambda: copy.deepcopy(model)
