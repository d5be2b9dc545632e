"""A layer type's own reset: how torch draws the tensors of a layer that nobody initialises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from packify.nn.recipes import SIZED_LAYERS, at_sizes


def can_reset(module: nn.Module) -> bool:
    """Whether the type of a layer says how its tensors are drawn at any size."""
    return isinstance(module, (nn.MultiheadAttention, *SIZED_LAYERS))


def reset_name(module: nn.Module) -> str:
    """For the report."""
    kind = next((base for base in type(module).__mro__ if base.__module__.startswith("torch.nn.modules")), type(module))
    return f"{kind.__name__}'s own reset"


@torch.no_grad()
def reset(module: nn.Module, shapes: Mapping[str, Sequence[int]], groups: int | None = None) -> dict[str, Tensor]:
    """A layer's parameters at these shapes, drawn from torch's global generator as torch itself draws them."""
    new = at_sizes(module, shapes, groups)
    if isinstance(module, nn.MultiheadAttention):
        for name, tensor in new._parameters.items():
            if tensor is not None and name in shapes:
                _reset_attention(name, tensor)
    else:
        kind = next(base for base in type(module).__mro__ if base.__module__.startswith("torch.nn.modules"))
        kind.reset_parameters(new)  # type: ignore[attr-defined]
        if type(module).__name__ == "NonDynamicallyQuantizableLinear" and new.bias is not None:
            nn.init.zeros_(new.bias)  # type: ignore[arg-type] # the output layer of attention
    return {name: tensor.detach() for name, tensor in new._parameters.items() if tensor is not None and name in shapes}


def _reset_attention(name: str, tensor: Tensor) -> None:
    """As `torch.nn.MultiheadAttention` does, whose own reset needs its output layer as well."""
    if name.startswith("bias_"):
        nn.init.xavier_normal_(tensor)
    elif name.endswith("weight"):
        nn.init.xavier_uniform_(tensor)
    else:
        nn.init.zeros_(tensor)
