"""BatchEnsemble by the definition, without a graph: every member is the reference with ``W * (s r^T)`` for W, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

LAYERS = (nn.modules.conv._ConvNd, nn.Linear)


def layers_of(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Every conv and linear module, by name."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, LAYERS))


def member_weight(layer: Any, weight: Tensor, r: Tensor, s: Tensor) -> Tensor:
    """``W[o, i] s[o] r[i]``, written out for grouped and transposed convs."""
    trailing = [1] * (weight.dim() - 2)
    if isinstance(layer, nn.Linear):
        return weight * torch.outer(s, r)
    made = []
    for group in range(layer.groups):
        own_r, own_s = r.chunk(layer.groups)[group], s.chunk(layer.groups)[group]
        factors = torch.outer(own_r, own_s) if layer.transposed else torch.outer(own_s, own_r)
        made.append(weight.chunk(layer.groups)[group] * factors.reshape(*factors.shape, *trailing))
    return torch.cat(made)


def members(model: nn.Module, network: nn.Module, x: Any, loss: Callable[[Tensor], Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Outputs ``"m b ..."`` and the gradients of the summed losses of all parameters of `network`, computed from `model` alone."""
    count = network.num_estimators
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in network.named_parameters()}
    outputs = []
    for member in range(count):
        tensors: dict[str, Any] = {name: leaves[name] for name, _ in model.named_parameters()}
        for name, layer in layers_of(model):
            r, s = leaves[f"{name}.r"][member], leaves[f"{name}.s"][member]
            tensors[f"{name}.weight"] = member_weight(layer, leaves[f"{name}.weight"], r, s)
            if layer.bias is not None:
                tensors[f"{name}.bias"] = leaves[f"{name}.bias"].chunk(count)[member]
        outputs.append(functional_call(model, tensors, (x,)))
    total: Tensor = sum(map(loss, outputs))  # type: ignore[assignment]
    gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    found = {name: gradient for name, gradient in zip(leaves, gradients, strict=True) if gradient is not None}
    return torch.stack(outputs), found
