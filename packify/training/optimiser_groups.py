"""Parameter groups for an optimiser: the factors of members get no weight decay and a smaller step."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

from packify.core.errors import SpecError


def parameter_groups(network: nn.Module, lr: float, weight_decay: float = 0.0, *, factor_lr: float | None = None) -> list[dict[str, Any]]:
    """The parameters of a BatchEnsemble for an optimiser: weight decay would draw r and s, which are around 1, to 0.

    Args:
        network: what `packify.batch_ensemble` gave; it may be wrapped. Of any other network all parameters are in the first group.
        lr: the step of everything but r and s.
        weight_decay: of everything but r and s.
        factor_lr: the step of r and s; by default half of `lr`.

    Returns:
        Groups for ``torch.optim.SGD(groups)`` and its like, named ``"shared"`` and ``"factors"``; a group without parameters is left out.

    Raises:
        SpecError: a number is negative.
    """
    for name, value in (("lr", lr), ("weight_decay", weight_decay), ("factor_lr", factor_lr)):
        if value is not None and not value >= 0:
            raise SpecError(name, found=repr(value), why="a step or a decay is at least 0", fix=f"pass for example {name}=0.1")
    names = _factor_names(network)
    given = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    factors = [parameter for name, parameter in given if name in names]
    others = [parameter for name, parameter in given if name not in names]
    groups = [
        {"name": "shared", "params": others, "lr": lr, "weight_decay": weight_decay},
        {"name": "factors", "params": factors, "lr": lr / 2 if factor_lr is None else factor_lr, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _factor_names(network: nn.Module) -> Collection[str]:
    """The names of all factors, also where the ensemble is a part of `network`."""
    found: set[str] = set()
    for path, module in network.named_modules():
        prefix = f"{path}." if path else ""
        found |= {prefix + name for name in getattr(module, "factor_names", ())}
    return found
