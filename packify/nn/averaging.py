"""The average of the members' outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, fx

AVERAGES = ("probs", "mean", "vote", "none")


def averaged(output: Any, how: str) -> Any:
    """The members' average of ``"m b ..."``.

    ``"probs"``: log of the mean softmax over the class axis, so that argmax, softmax and cross-entropy of the result are the
    ensemble's (paper, eq. 5); ``"mean"``: the mean; ``"vote"``: what most members say, the smallest of several;
    ``"none"``: all members, ``"m b ..."``.
    """
    if not isinstance(output, Tensor) or how == "none":
        return output
    if how == "vote":
        votes = output.byte() if output.dtype == torch.bool else output
        return votes.mode(0).values.to(output.dtype)
    if how == "mean":
        return output.mean(0)
    axis = class_axis(output.dim() - 1) + 1
    return torch.logsumexp(output.log_softmax(axis), 0) - math.log(output.shape[0])


def class_axis(ndim: int) -> int:
    """The axis of the classes in logits ``"b k"`` or ``"b k h w"``; in ``"b n k"`` the last."""
    return 1 if ndim > 3 else ndim - 1


def origin(node: fx.Node, traits_of: Callable[[fx.Node], Collection[str]]) -> fx.Node:
    """The node that makes an output, behind what only rearranges it."""
    while "hands_on" in traits_of(node) and node.args and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node


def default_average(value: Any, traits: Collection[str]) -> str:
    """How an output is averaged when the user does not say: by its shape and by the traits of the operator that makes it."""
    if not isinstance(value, Tensor) or value.is_complex():
        return "mean"
    if not value.is_floating_point():
        return "vote"
    if "not_logits" in traits:
        return "mean"
    if value.dim() < 2 or value.dim() == 3 or value.shape[class_axis(value.dim())] < 2:
        return "mean"
    return "probs"
