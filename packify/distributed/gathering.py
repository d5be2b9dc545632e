"""Tensors of all processes along one axis of a mesh, in one collective for each dtype."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


def gathered(tensors: Sequence[Tensor], group: dist.ProcessGroup | None, processes: int) -> list[Tensor]:
    """Each tensor with a new leading axis over the processes, ``"..." -> "process ..."``; shapes are the same on all of them."""
    found: list[Tensor] = [tensor[None] for tensor in tensors]
    if processes == 1:
        return found
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        places = [index for index, tensor in enumerate(tensors) if tensor.dtype == dtype]
        own = torch.cat([tensors[index].detach().reshape(-1) for index in places])
        plain = own.byte() if dtype == torch.bool else own
        everyone = plain.new_empty(processes * len(plain))
        dist.all_gather_into_tensor(everyone, plain.contiguous(), group=group)
        pieces = everyone.to(dtype).view(processes, -1).split([tensors[index].numel() for index in places], 1)
        for index, piece in zip(places, pieces, strict=True):
            found[index] = piece.reshape(processes, *tensors[index].shape)
    return found
