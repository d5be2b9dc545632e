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
    q, k, v = (F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True))
    if bias_k is not None and bias_v is not None:
        k = torch.cat([k, bias_k.expand(-1, k.size(1), -1)])
        v = torch.cat([v, bias_v.expand(-1, v.size(1), -1)])
    batch, length = q.size(1), q.size(0)
    head_dim = q.size(2) // num_heads
    q = q.reshape(length, batch, num_heads, head_dim).permute(1, 2, 0, 3)
    k = (
        static_k.unflatten(0, (-1, num_heads))
        if static_k is not None
        else k.reshape(k.size(0), batch, num_heads, head_dim).permute(1, 2, 0, 3)
    )
    v = (
        static_v.unflatten(0, (-1, num_heads))
        if static_v is not None
        else v.reshape(v.size(0), batch, num_heads, head_dim).permute(1, 2, 0, 3)
    )
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
    out = F.linear(out.permute(2, 0, 1, 3).flatten(2), out_proj_weight, out_proj_bias)
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


# By operator name.
DECOMPOSITIONS: dict[str, Callable[..., Any]] = {
    "multi_head_attention_forward": multi_head_attention,
    "gru_cell": gru_cell,
    "lstm_cell": lstm_cell,
    "rnn_tanh_cell": rnn_tanh_cell,
    "rnn_relu_cell": rnn_relu_cell,
}
