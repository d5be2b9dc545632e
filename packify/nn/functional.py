"""The arithmetic of packed layers, as functions of plain tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from packify.nn.subgroups import by_group, by_part


def grouped_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None, groups: int = 1, parts: Sequence[int] = ()) -> Tensor:
    """A linear layer cut into subgroups: input ``"... (g i)"``, weight ``"(g o) i"``, output ``"... (g o)"`` (paper, section 3.1).

    Outputs that are later cut into parts are made of all subgroups each: weight ``"(part g o) i"``, output ``"... (part g o)"``.
    """
    if groups == 1:
        return F.linear(input, weight, bias)
    return packed_linear(input.unsqueeze(0), weight, bias, 1, groups, parts).squeeze(0)


def packed_linear(input: Tensor, weight: Tensor, bias: Tensor | None, members: int, groups: int = 1, parts: Sequence[int] = ()) -> Tensor:
    """One linear layer per member: input ``"m ... (g i)"``, weight ``"(m g o) i"``, output ``"m ... (g o)"``.

    With parts of these sizes the weight is ``"(m part g o) i"`` and the output ``"m ... (part g o)"``.
    """
    lead = input.shape[1:-1]
    if groups > 1:
        weight = by_group(weight, 0, members, groups, parts)
        bias = None if bias is None else by_group(bias, 0, members, groups, parts)
    weight = weight.unflatten(0, (members * groups, -1)).transpose(-2, -1)
    if groups == 1:
        rows = input.reshape(members, -1, input.shape[-1])
    else:
        rows = input.reshape(members, -1, groups, input.shape[-1] // groups).transpose(1, 2).flatten(0, 1)
    out = torch.bmm(rows, weight) if bias is None else torch.baddbmm(bias.view(members * groups, 1, -1), rows, weight)
    if groups > 1:
        out = _outputs_in_order(out.unflatten(0, (members, groups)), parts)
    return out.reshape(members, *lead, out.shape[-1])


def _outputs_in_order(out: Tensor, parts: Sequence[int]) -> Tensor:
    """``"m g n (part o)"`` as ``"m n (part g o)"``, in one copy where parts are alike."""
    if len(set(parts)) == 1:
        turned: Tensor = out.unflatten(3, (len(parts), -1)).permute(0, 2, 3, 1, 4)
        return turned.flatten(2)
    return by_part(out.transpose(1, 2).flatten(2), 2, 1, out.shape[1], parts)


def packed_embedding(input: Tensor, weight: Tensor, members: int, packed: bool, padding_idx: int | None = None) -> Tensor:
    """One table per member: indices ``"..."`` (or ``"m ..."`` if `packed`), weight ``"(m v) d"``, output ``"m ... d"``."""
    vocabulary = weight.shape[0] // members
    indices = input if packed else input.unsqueeze(0)
    offsets = torch.arange(members, device=input.device).view(-1, *[1] * (indices.dim() - 1)) * vocabulary
    rows = F.embedding(indices + offsets, weight)
    if padding_idx is None:
        return rows
    padding = (indices == padding_idx % vocabulary).unsqueeze(-1)
    return torch.where(padding, rows.detach(), rows)


def norm_in_place(
    norm: Callable[..., Tensor],
    input: Tensor,
    shape: Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float | None,
    members: int,
) -> Tensor:
    """One norm per member over the last axis, where that carries the members: ``"... (m c)"``, weight and bias ``"(m c)"``."""
    normal = norm(input.unflatten(-1, (members, -1)), shape, eps=eps)
    if weight is not None:
        normal = normal * weight.view(members, -1)
    return (normal if bias is None else normal + bias.view(members, -1)).flatten(-2)


def affine(input: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """A norm's scale and shift per member: input ``"m ... c"``, weight and bias ``"m c"`` (``c`` may be several axes)."""
    if weight is not None:
        input = input * _aligned(weight, input)
    return input if bias is None else input + _aligned(bias, input)


def _aligned(parameter: Tensor, input: Tensor) -> Tensor:
    return parameter.view(parameter.shape[0], *[1] * (input.dim() - parameter.dim()), *parameter.shape[1:])
