"""The arithmetic of packed layers, as functions of plain tensors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def grouped_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None, groups: int = 1) -> Tensor:
    """A linear layer cut into subgroups: input ``"... (g i)"``, weight ``"(g o) i"``, output ``"... (g o)"`` (paper, section 3.1)."""
    if groups == 1:
        return F.linear(input, weight, bias)
    grouped = input.unflatten(-1, (groups, -1)).unsqueeze(-2)
    out = (grouped @ weight.unflatten(0, (groups, -1)).transpose(-2, -1)).squeeze(-2).flatten(-2)
    return out if bias is None else out + bias


def packed_linear(input: Tensor, weight: Tensor, bias: Tensor | None, members: int, groups: int = 1) -> Tensor:
    """One linear layer per member: input ``"m ... (g i)"``, weight ``"(m g o) i"``, output ``"m ... (g o)"``."""
    lead = input.shape[1:-1]
    weight = weight.unflatten(0, (members * groups, -1)).transpose(-2, -1)
    if groups == 1:
        rows = input.reshape(members, -1, input.shape[-1])
    else:
        rows = input.reshape(members, -1, groups, input.shape[-1] // groups).transpose(1, 2).flatten(0, 1)
    if bias is None:
        out = torch.bmm(rows, weight)
    else:
        out = torch.baddbmm(bias.view(members * groups, 1, -1), rows, weight)
    if groups > 1:
        out = out.unflatten(0, (members, groups)).transpose(1, 2).flatten(2)
    return out.reshape(members, *lead, out.shape[-1])
