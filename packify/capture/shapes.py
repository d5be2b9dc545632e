"""What a few operators give without data and without history, known at once.

torch computes it from a chain of simpler operators, in Python: a millisecond or more each, most of the time that a transformer's
member takes. The strides are those of the kernels that run on data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def known_result(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """The result of a call on tensors without data, if it has no history; None where only the call itself can tell, or refuses.

    Args:
        function: what is called.
        args, kwargs: tensors on the meta device and plain values.
    """
    if torch.is_grad_enabled() or function not in _KNOWN:
        return None
    try:
        return _KNOWN[function](*args, **kwargs)
    except (TypeError, AttributeError, IndexError):  # arguments of another kind than the operator takes: the call says so
        return None


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    fits = input.dim() > 1 and weight.dim() == 2 and input.shape[-1] == weight.shape[1] and input.dtype == weight.dtype
    if bias is not None:
        fits = fits and bias.shape == weight.shape[:1] and bias.dtype == input.dtype
    return input.new_empty((*input.shape[:-1], weight.shape[0])) if fits else None


def _layer_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor | None:
    shape = torch.Size(normalized_shape)
    own = [parameter for parameter in (weight, bias) if parameter is not None]
    fits = len(shape) > 0 and input.shape[-len(shape) :] == shape and input.is_floating_point()
    fits = fits and all(parameter.shape == shape and parameter.dtype == input.dtype for parameter in own)
    return input.new_empty(input.shape) if fits else None


def _attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None, *settings: Any, **others: Any) -> Tensor | None:
    if attn_mask is not None or settings[2:] or others.keys() - {"dropout_p", "is_causal", "scale"}:
        return None
    alike = query.shape[:-2] == key.shape[:-2] == value.shape[:-2] and query.dtype == key.dtype == value.dtype
    fits = alike and query.dim() > 2 and query.shape[-1] == key.shape[-1] and key.shape[-2] == value.shape[-2]
    return query.new_empty((*query.shape[:-1], value.shape[-1])) if fits and query.is_floating_point() else None


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    own = [tensor for tensor in (running_mean, running_var, weight, bias) if tensor is not None]
    fits = _is_plain(input) and input.dim() > 1 and all(tensor.shape == input.shape[1:2] and tensor.dtype == input.dtype for tensor in own)
    enough = input.numel() > input.shape[1] if training else None not in (running_mean, running_var)
    return torch.empty_like(input) if fits and enough else None


def _group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor | None:
    own = [tensor for tensor in (weight, bias) if tensor is not None]
    fits = _is_plain(input) and input.is_contiguous() and input.dim() > 1 and input.shape[1] % num_groups == 0
    fits = fits and all(tensor.shape == input.shape[1:2] and tensor.dtype == input.dtype for tensor in own)
    return torch.empty_like(input) if fits and input.numel() > input.shape[0] * num_groups else None


def _gelu(input: Tensor, approximate: str = "none") -> Tensor | None:
    return torch.empty_like(input) if input.is_floating_point() and approximate in ("none", "tanh") else None


def _activation(input: Tensor, inplace: bool = False) -> Tensor | None:
    if not _is_plain(input):
        return None
    return input if inplace else torch.empty_like(input)


def _relu(input: Tensor) -> Tensor | None:
    return _activation(input)


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor | None:
    return _activation(input, inplace) if training and 0 < p < 1 else None


def _clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor | None:
    numbers = all(bound is None or type(bound) in (int, float) for bound in (min, max))
    return _activation(input) if numbers and (min, max) != (None, None) else None


def _is_plain(tensor: Tensor) -> bool:
    """Floating, not empty, and laid out as kernels lay out what they make of it."""
    dense = tensor.is_contiguous() or (tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last))
    return tensor.is_floating_point() and tensor.numel() > 0 and dense


_KNOWN: dict[Callable[..., Any], Callable[..., Tensor | None]] = {
    F.linear: _linear,
    F.layer_norm: _layer_norm,
    F.scaled_dot_product_attention: _attention,
    F.gelu: _gelu,
    F.batch_norm: _batch_norm,
    F.group_norm: _group_norm,
    F.dropout: _dropout,
    **dict.fromkeys((F.relu, F.relu6, F.hardswish, F.hardsigmoid, F.mish), _activation),
    **dict.fromkeys((torch.relu, torch.Tensor.relu), _relu),
    **dict.fromkeys((torch.clamp, torch.Tensor.clamp), _clamp),
}
