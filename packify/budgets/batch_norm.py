"""Batch norm in training without its arithmetic: on tensors without data torch decomposes it, which takes longer than all else together."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, fx, nn
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


def trained_batch_norm(node: fx.Node, root: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """What a batch norm gives in training mode, a layer's or a call of the function; None for any other node."""
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        return _run(args[0], module.weight, module.bias) if isinstance(module, nn.modules.batchnorm._BatchNorm) else None
    if node.target is not F.batch_norm:
        return None
    given = _SIGNATURE.bind(*args, **kwargs)
    given.apply_defaults()
    named = given.arguments
    return _run(named["input"], named["weight"], named["bias"]) if named["training"] else None


def _run(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    result: Tensor = _BatchNorm.apply(x, weight, bias)
    return result
