"""The average of the members' outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, fx

AVERAGES = ("probs", "sigmoid", "mean", "gaussian", "vote", "none")


def averaged(output: Any, how: str) -> Any:
    """The members' average of ``"m b ..."``.

    - ``"probs"``: log of the mean softmax over the class axis, so that argmax, softmax and cross-entropy of the result are the
      ensemble's (paper, eq. 5);
    - ``"sigmoid"``: logit of the mean sigmoid, label by label;
    - ``"mean"``: the mean;
    - ``"gaussian"``: of pairs of mean and variance, which halve the class axis, the mixture's mean and variance: the mean of the variances
      plus the variance of the means;
    - ``"vote"``: what most members say, the smallest of several;
    - ``"none"``: all members, ``"m b ..."``.
    """
    if not isinstance(output, Tensor) or how == "none":
        return output
    if how == "vote":
        votes = output.byte() if output.dtype == torch.bool else output
        return votes.mode(0).values.to(output.dtype)
    if how == "mean":
        return output.mean(0)
    if how == "sigmoid":
        return _mean_of_sigmoids(output)
    axis = class_axis(output.dim() - 1) + 1
    if how == "gaussian":
        mean, variance = output.chunk(2, axis)
        return torch.cat([mean.mean(0), variance.mean(0) + mean.var(0, correction=0)], axis - 1)
    return torch.logsumexp(output.log_softmax(axis), 0) - math.log(output.shape[0])


def _mean_of_sigmoids(output: Tensor) -> Tensor:
    """``log p - log(1 - p)`` of the mean p, computed from logarithms so that extreme logits stay finite."""
    on, off = (torch.logsumexp(torch.nn.functional.logsigmoid(sign * output), 0) for sign in (1, -1))
    return on - off


def class_axis(ndim: int) -> int:
    """The axis of the classes in logits ``"b k"`` or ``"b k h w"``; in ``"b n k"`` the last."""
    return 1 if ndim > 3 else ndim - 1


# What these make is features, unless a classifier ends in one.
POOLS = frozenset(
    "mean amax adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d "
    "avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d".split()
)


def maker(node: fx.Node, traits_of: Callable[[fx.Node], Collection[str]]) -> fx.Node:
    """The node that makes an output, behind what only rearranges, resizes or drops some of it."""
    while "hands_on" in traits_of(node) and node.args and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node


def could_be_logits(value: Tensor, traits: Collection[str]) -> bool:
    """Whether a floating output has the shape of logits, and the traits of the operator that makes it do not speak against it."""
    return "not_logits" not in traits and value.dim() >= 2 and value.shape[class_axis(value.dim())] >= 2
