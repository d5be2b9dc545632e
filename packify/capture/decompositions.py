"""Composite functions written out in the operators that have rules. They compute what torch's own versions do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def multi_head_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """`torch.nn.functional.multi_head_attention_forward`: query ``"l b c"`` (or ``"l c"``) to ``"l b c"`` and weights ``"b l s"``."""
    batched = query.dim() == 3
    if not batched:
        query, key, value = query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    if use_separate_proj_weight:
        weights: Any = (q_proj_weight, k_proj_weight, v_proj_weight)
    else:
        weights = in_proj_weight.chunk(3)  # type: ignore[union-attr]
    biases: Any = (None, None, None) if in_proj_bias is None else in_proj_bias.chunk(3)
    # The batch goes first, "b l c": what the batch carries then stays outermost all the way through, and members need not move.
    q, k, v = (F.linear(x.transpose(0, 1), w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True))
    batch, head_dim = q.size(0), q.size(2) // num_heads
    if bias_k is not None and bias_v is not None:
        k = torch.cat([k, bias_k.expand(batch, -1, -1)], 1)
        v = torch.cat([v, bias_v.expand(batch, -1, -1)], 1)
    q = q.reshape(batch, q.size(1), num_heads, head_dim).transpose(1, 2)
    k = static_k.unflatten(0, (-1, num_heads)) if static_k is not None else k.reshape(batch, k.size(1), num_heads, head_dim).transpose(1, 2)
    v = static_v.unflatten(0, (-1, num_heads)) if static_v is not None else v.reshape(batch, v.size(1), num_heads, head_dim).transpose(1, 2)
    if add_zero_attn:
        k = F.pad(k, (0, 0, 0, 1))
        v = F.pad(v, (0, 0, 0, 1))
    mask = _combined_mask(attn_mask, key_padding_mask, k.size(2), num_heads, q)
    if is_causal and attn_mask is None and not need_weights:
        out = F.scaled_dot_product_attention(q, k, v, mask, dropout_p if training else 0.0, is_causal=mask is None)
        weights_out = None
    elif need_weights:
        scores = (q * (q.size(-1) ** -0.5)) @ k.transpose(-2, -1)
        scores = F.softmax(scores if mask is None else scores + mask, dim=-1)
        weights_out = scores.mean(dim=1) if average_attn_weights else scores
        out = (F.dropout(scores, dropout_p, training) if dropout_p > 0 else scores) @ v
        weights_out = weights_out if batched else weights_out.squeeze(0)
    else:
        out = F.scaled_dot_product_attention(q, k, v, mask, dropout_p if training else 0.0)
        weights_out = None
    out = F.linear(out.transpose(1, 2).flatten(2), out_proj_weight, out_proj_bias).transpose(0, 1)
    return (out if batched else out.squeeze(1)), weights_out


def _combined_mask(attn_mask: Tensor | None, padding: Tensor | None, source: int, num_heads: int, q: Tensor) -> Tensor | None:
    """One additive mask that broadcasts to ``"b h l s"``."""
    mask = None
    if attn_mask is not None:
        mask = _additive(attn_mask, q)
        if mask.dim() == 3:
            mask = mask.unflatten(0, (-1, num_heads))
        mask = F.pad(mask, (0, source - mask.size(-1))) if source != mask.size(-1) else mask
    if padding is not None:
        extra = _additive(padding, q).unsqueeze(1).unsqueeze(1)
        extra = F.pad(extra, (0, source - extra.size(-1))) if source != extra.size(-1) else extra
        mask = extra if mask is None else mask + extra
    return mask


def _additive(mask: Tensor, q: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=q.dtype).masked_fill(mask, float("-inf"))


def gru_cell(input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None) -> Tensor:
    """`torch.nn.GRUCell`: input ``"b i"``, state ``"b h"``, weights ``"(3 h) i"`` and ``"(3 h) h"``."""
    reset_i, update_i, new_i = F.linear(input, w_ih, b_ih).chunk(3, -1)
    reset_h, update_h, new_h = F.linear(hx, w_hh, b_hh).chunk(3, -1)
    update = torch.sigmoid(update_i + update_h)
    new = torch.tanh(new_i + torch.sigmoid(reset_i + reset_h) * new_h)
    return new + update * (hx - new)


def lstm_cell(
    input: Tensor, hx: tuple[Tensor, Tensor], w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`torch.nn.LSTMCell`: input ``"b i"``, state and cell ``"b h"``, weights ``"(4 h) i"`` and ``"(4 h) h"``."""
    state, cell = hx
    gates = F.linear(input, w_ih, b_ih) + F.linear(state, w_hh, b_hh)
    enter, forget, new, leave = gates.chunk(4, -1)
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(new)
    return torch.sigmoid(leave) * torch.tanh(cell), cell


def rnn_tanh_cell(input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None) -> Tensor:
    """`torch.nn.RNNCell`: input ``"b i"``, state ``"b h"``, weights ``"h i"`` and ``"h h"``."""
    return torch.tanh(F.linear(input, w_ih, b_ih) + F.linear(hx, w_hh, b_hh))


def rnn_relu_cell(input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None) -> Tensor:
    """`torch.nn.RNNCell` with ``nonlinearity="relu"``."""
    return torch.relu(F.linear(input, w_ih, b_ih) + F.linear(hx, w_hh, b_hh))


def as_type(x: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """`torch.Tensor.type`: the name of a tensor's type, or the tensor with another dtype, which may be called by such a name."""
    if dtype is None:
        kinds = (kind for kind in torch._tensor_classes if kind.dtype == x.dtype and kind.is_cuda == x.is_cuda)
        return next(f"{kind.__module__}.{kind.__name__}" for kind in kinds if not kind.is_sparse)
    if isinstance(dtype, str):
        dtype = next(kind for kind in torch._tensor_classes if f"{kind.__module__}.{kind.__name__}" == dtype)
    return x.to(dtype if isinstance(dtype, torch.dtype) else dtype.dtype)


def as_tensor(
    data: Any, *, dtype: torch.dtype | None = None, device: Any = None, copy: bool | None = None, requires_grad: bool = True
) -> Any:
    """`torch.as_tensor` and `torch.asarray` of a tensor."""
    if not isinstance(data, Tensor):
        return NotImplemented
    x = data.clone() if copy else data
    x = x if device is None else x.to(device)
    x = x if dtype is None else x.to(dtype)
    return x if requires_grad else x.detach()


def new_tensor(x: Tensor, data: Any, *, dtype: torch.dtype | None = None, device: Any = None, requires_grad: bool = False) -> Any:
    """`torch.Tensor.new_tensor` of a tensor or an array."""
    if not hasattr(data, "shape"):
        return NotImplemented
    return torch.as_tensor(data).detach().clone().to(x.device if device is None else device).to(x.dtype if dtype is None else dtype)


def set_part(x: Tensor, part: str, value: Tensor) -> None:
    """``x.data = value`` of the same shape, ``x.real = value``."""
    getattr(x, part).copy_(value)


def set_where(x: Tensor, mask: Tensor, source: Tensor) -> None:
    """``x[mask] = source[mask]``."""
    x.copy_(torch.where(mask[(..., *(None,) * (source.dim() - mask.dim()))], source, x))


def write_to(out: Tensor, function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    """``function(..., out=out)``."""
    return out.copy_(function(*args, **kwargs))


def write_without_gradient(function: Callable[..., Any], parameter: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """An in-place operator on a parameter under ``torch.no_grad()``, which a graph does not know of."""
    function(parameter.detach(), *args, **kwargs)
    return parameter


def cat(tensors: Any, dim: Any = 0, **kwargs: Any) -> Any:
    """One tensor that is joined with itself along an axis of size 1 is repeated: how often is a number that may follow a width."""
    first = next(iter(tensors), None)
    if kwargs or not isinstance(dim, int) or first is None or len(tensors) < 2 or any(tensor is not first for tensor in tensors):
        return NotImplemented
    if first.dim() == 0 or first.shape[dim] != 1:
        return NotImplemented
    times = [1] * first.dim()
    times[dim] = len(tensors)
    return first.repeat(times)


def einsum(*operands: Any) -> Any:
    """``einsum(x, [0, 1], y, [1, 2], [0, 2])`` as ``einsum("AB,BC->AC", x, y)``."""
    if isinstance(operands[0], str) or len(operands) < 2:
        return NotImplemented
    tensors, axes = operands[0 : len(operands) - len(operands) % 2 : 2], [list(term) for term in operands[1::2]]
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    output = [list(operands[-1])] if len(operands) % 2 else []
    terms = ["".join("..." if axis is Ellipsis else letters[axis] for axis in term) for term in (*axes, *output)]
    return torch.einsum(",".join(terms[: len(tensors)]) + "".join("->" + term for term in terms[len(tensors) :]), *tensors)


# By operator name; what they return NotImplemented for is recorded as it is.
DECOMPOSITIONS: dict[str, Callable[..., Any]] = {
    "multi_head_attention_forward": multi_head_attention,
    "gru_cell": gru_cell,
    "lstm_cell": lstm_cell,
    "rnn_tanh_cell": rnn_tanh_cell,
    "rnn_relu_cell": rnn_relu_cell,
    "type": as_type,
    "as_tensor": as_tensor,
    "asarray": as_tensor,
    "new_tensor": new_tensor,
    "cat": cat,
    "einsum": einsum,
}
