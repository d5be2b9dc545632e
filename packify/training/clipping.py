"""Clipping gradients by their norm, each member by its own."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import utils

from packify.core.errors import DataError, SpecError
from packify.training.losses import check_num_estimators


@torch.no_grad()
def clip_grad_norm_(
    network_or_parameters: nn.Module | Tensor | Iterable[Tensor],
    max_norm: float,
    num_estimators: int | None = None,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale each member's gradients to a norm of at most `max_norm`: ``torch.nn.utils.clip_grad_norm_`` on every member alone.

    A clip by the norm of all gradients couples the members: a member with large gradients would shrink the steps of the others.

    Args:
        network_or_parameters: a packed network, or parameters whose leading axis holds M members, member-major.
        max_norm: largest norm of a member's gradients.
        num_estimators: M; a packed network knows its own.
        norm_type: p of the p-norm; may be ``inf``.
        error_if_nonfinite: raise where a member's norm is not finite, before any gradient is changed.
        foreach: as for torch's function.

    Returns:
        The norms before clipping, ``"m"``.

    Raises:
        SpecError: M is missing or cannot be.
        DataError: a gradient does not hold M members, or is one that cannot be cut in place (sparse, or a DTensor).
        RuntimeError: a norm is not finite, and `error_if_nonfinite`.
    """
    named, members = _parameters(network_or_parameters, num_estimators)
    shares: list[list[Tensor]] = [[] for _ in range(members)]
    for name, parameter in named:
        if parameter.grad is not None:
            for member, share in enumerate(_cut(name, parameter.grad, members)):
                shares[member].append(share)
    if not shares[0]:
        return torch.zeros(members)
    norms = [utils.get_total_norm(grads, norm_type, error_if_nonfinite, foreach) for grads in shares]
    for grads, norm in zip(shares, norms, strict=True):
        utils.clip_grads_with_norm_([_with_grad(grad) for grad in grads], max_norm, norm, foreach)
    return torch.stack(norms)


def _parameters(given: nn.Module | Tensor | Iterable[Tensor], num_estimators: int | None) -> tuple[list[tuple[str, Tensor]], int]:
    members = num_estimators
    if isinstance(given, nn.Module):
        named: list[tuple[str, Tensor]] = list(given.named_parameters())
        if members is None:
            wrapped = getattr(given, "module", None)  # DistributedDataParallel and its like hold the network there
            members = getattr(given, "num_estimators", None) or getattr(wrapped, "num_estimators", None)
        _require_own_weights(given)
    else:
        tensors = [given] if isinstance(given, Tensor) else list(given)
        named = [(f"parameter {position}", tensor) for position, tensor in enumerate(tensors)]
    if members is None:
        raise SpecError(
            "clip_grad_norm_",
            found=f"a {type(given).__name__} that does not say how many members it holds",
            why="gradients are cut into the shares of M members",
            fix="pass num_estimators=packed.num_estimators",
        )
    check_num_estimators(members, "clip_grad_norm_")
    return named, members


def _require_own_weights(network: nn.Module) -> None:
    """Members that share weights have no gradients of their own there."""
    if any(isinstance(getattr(one, "own", None), frozenset) for one in (network, getattr(network, "module", None))):
        raise SpecError(
            "clip_grad_norm_",
            found=f"a {type(network).__name__}, whose members share weights",
            why="a shared weight has one gradient, the sum of all members', which cannot be cut into theirs",
            fix="clip with torch.nn.utils.clip_grad_norm_(network.parameters(), max_norm)",
        )


def _cut(name: str, grad: Tensor, members: int) -> tuple[Tensor, ...]:
    """The members' shares of one gradient, as views."""
    if members == 1:
        return (grad,)
    if grad.is_sparse or hasattr(grad, "placements"):
        raise DataError(
            f"clip_grad_norm_: {name}",
            found="a sparse gradient" if grad.is_sparse else "a gradient that is spread over devices (DTensor)",
            why="its members' shares are no views, so that scaling them would change nothing",
            fix="build the embedding with sparse=False"
            if grad.is_sparse
            else "clip with torch.nn.utils.clip_grad_norm_, all members at once",
        )
    if not grad.dim() or len(grad) % members:
        raise DataError(
            f"clip_grad_norm_: {name}",
            found=f"a gradient of shape {tuple(grad.shape)}",
            why=f"its leading axis does not hold {members} members",
            fix="pass the packed network's parameters only, and clip the others with torch.nn.utils.clip_grad_norm_",
        )
    return grad.chunk(members)


def _with_grad(grad: Tensor) -> Tensor:
    """A stand-in for the parameter whose gradient this view is."""
    stand_in = grad.detach()
    stand_in.grad = grad
    return stand_in
