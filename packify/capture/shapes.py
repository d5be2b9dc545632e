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


def _gelu(input: Tensor, approximate: str = "none") -> Tensor | None:
    return torch.empty_like(input) if input.is_floating_point() and approximate in ("none", "tanh") else None


_KNOWN: dict[Callable[..., Any], Callable[..., Tensor | None]] = {
    F.linear: _linear,
    F.layer_norm: _layer_norm,
    F.scaled_dot_product_attention: _attention,
    F.gelu: _gelu,
}
