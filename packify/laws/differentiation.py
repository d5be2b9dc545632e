"""Networks whose gradient cannot be followed: they overwrite what it needs, or torch has no derivative of what they call."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from packify.core.errors import PackError
from packify.laws.observation import Batch, call, floating
from packify.nn.packed_network import PackedNetwork


@contextlib.contextmanager
def explained(network: PackedNetwork, inputs: Batch) -> Iterator[None]:
    """Where a member alone cannot be differentiated either, say so.

    Raises:
        PackError: it cannot.
    """
    try:
        yield
    except RuntimeError as error:
        if _differentiable(network, inputs):
            raise
        overwritten = "inplace operation" in str(error)
        raise PackError(
            f"the backward pass in {'train' if network.training else 'eval'} mode",
            found=str(error).partition(";")[0],
            why="the reference overwrites in place what its own gradient needs, so no gradient can be followed"
            if overwritten
            else "a member alone cannot be differentiated either, and the laws are about gradients",
            fix="call that operator without the underscore at its end (add instead of add_) and pack again"
            if overwritten
            else "use another operator there; a network that is never trained converts with --no-verify",
        ) from error


def _differentiable(network: PackedNetwork, inputs: Batch) -> bool:
    """Member 0 alone has gradients."""
    outputs = floating(call(network.extract(0), inputs.of(network, 0)))
    try:
        torch.autograd.backward([output.sum() for output in outputs if output.requires_grad])
    except RuntimeError:
        return False
    return True
