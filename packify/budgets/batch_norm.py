"""Batch norm in training without its arithmetic: on tensors without data torch decomposes it, which takes longer than all else together."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_SIGNATURE = inspect.signature(F.batch_norm)


class _BatchNorm(torch.autograd.Function):
    """The output's shape, and what autograd keeps: input, weight, and the batch's mean and inverse deviation, ``"c"`` each."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, _bias: Tensor | None) -> Tensor:
        channels = x.shape[1] if x.dim() > 1 else x.shape[0]
        kind = torch.float32 if x.dtype.itemsize < 4 else x.dtype
        statistics = [torch.empty(channels, dtype=kind, device=x.device) for _ in range(2)]
        ctx.save_for_backward(x, weight, *statistics)
        return torch.empty_like(x)

    @staticmethod
    def backward(_ctx: Any, *_gradients: Tensor) -> Any:
        raise RuntimeError("tensors without data have no gradients")


def normalised(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """What a batch norm layer gives in training mode."""
    result: Tensor = _BatchNorm.apply(x, weight, bias)
    return result


def trained_batch_norm(*args: Any, **kwargs: Any) -> Tensor:
    """What `torch.nn.functional.batch_norm` gives; in training mode without its arithmetic."""
    given = _SIGNATURE.bind(*args, **kwargs)
    given.apply_defaults()
    named = given.arguments
    return normalised(named["input"], named["weight"], named["bias"]) if named["training"] else F.batch_norm(*args, **kwargs)
