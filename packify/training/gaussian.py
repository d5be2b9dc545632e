"""Regression with a mean and a variance: the loss of one Gaussian head, and the mixture that M of them are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree

from packify.core.errors import DataError, SpecError

VarianceForm = Literal["positive", "softplus", "log"]


@dataclass(frozen=True)
class RegressionUncertainty:
    """Mean and variance of an equal mixture of M Gaussians (Lakshminarayanan et al. 2017, section 2.4).

    Attributes:
        mean: the mean of the members' means, ``"b ..."``.
        aleatoric: the mean of the members' variances: noise of the data. 0 where members predict no variance.
        epistemic: the variance of the members' means (divided by M): what members disagree about. 0 for one member.
    """

    mean: Tensor
    aleatoric: Tensor
    epistemic: Tensor

    @property
    def variance(self) -> Tensor:
        """The mixture's variance, aleatoric + epistemic."""
        return self.aleatoric + self.epistemic


def gaussian_mixture(means: Tensor, variances: Tensor) -> RegressionUncertainty:
    """The moments of the members' mixture.

    Args:
        means: ``"m b ..."``.
        variances: ``"m b ..."``.
    """
    return RegressionUncertainty(means.mean(0), variances.mean(0), means.var(0, correction=0))


def gaussian_moments(
    outputs: Any, variance: VarianceForm = "positive", eps: float = 1e-6, axis: int | None = None
) -> tuple[Tensor, Tensor]:
    """Mean and variance of a Gaussian head's outputs.

    Args:
        outputs: a pair ``(mean, variance)``, a dict with the keys ``mean`` and ``variance``, or one tensor that holds the means and then
            the variances along one axis, ``"b (2 d)"``, ``"b (2 d) h w"``.
        variance: how the head gives the variance: ``"positive"`` as it is, ``"softplus"`` before a softplus, ``"log"`` as its logarithm.
        eps: smallest variance; smaller ones are raised to it.
        axis: of the means and variances in one tensor; by default 1 for more than three axes, else the last.

    Raises:
        SpecError: an unknown form of variance.
        DataError: outputs that hold no mean and variance, or a variance below 0.
    """
    if variance not in get_args(VarianceForm):
        raise SpecError(
            f"variance={variance!r}",
            found=repr(variance),
            why="a head gives its variance as it is, before a softplus, or as its logarithm",
            fix='pass "positive", "softplus" or "log"',
        )
    mean, raw = _halves(outputs, axis)
    if variance == "log":
        return mean, raw.exp().clamp(min=eps)
    if variance == "softplus":
        return mean, F.softplus(raw).clamp(min=eps)
    if bool((raw < 0).any()):
        raise DataError(
            "Gaussian head",
            found=f"a variance of {raw.min().item():g}",
            why="a variance is not negative",
            fix='end the head with a softplus, or pass variance="softplus" or variance="log" for a head that ends with a linear layer',
        )
    return mean, raw.clamp(min=eps)


class GaussianNLL(nn.Module):
    """Negative log-likelihood of targets under a head that gives a mean and a variance; per member inside `EnsembleLoss`.

    Args:
        variance: how the head gives the variance, see `gaussian_moments`.
        full: add the constant ``log(2 pi) / 2``, for the true density.
        eps: smallest variance.
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` over ``"b d"``.

    Raises:
        SpecError: an unknown form of variance or reduction.
        DataError: on a call whose mean and targets have different shapes; the message shows both.

    Example:
        >>> criterion = EnsembleLoss(GaussianNLL("softplus"))
        >>> criterion(packed(x), y).backward()  # packed(x) is "(m b) (2 d)", y is "b d" (or "b" where d is 1)
    """

    def __init__(
        self,
        variance: VarianceForm = "positive",
        *,
        full: bool = False,
        eps: float = 1e-6,
        reduction: Literal["mean", "sum", "none"] = "mean",
    ) -> None:
        super().__init__()
        if variance not in get_args(VarianceForm) or reduction not in ("mean", "sum", "none"):
            raise SpecError(
                "GaussianNLL",
                found=f"variance={variance!r}, reduction={reduction!r}",
                why='variance is "positive", "softplus" or "log"; reduction is "mean", "sum" or "none"',
                fix='pass for example GaussianNLL("softplus")',
            )
        self.variance: VarianceForm = variance
        self.full, self.eps, self.reduction = full, eps, reduction

    def forward(self, outputs: Any, targets: Tensor) -> Tensor:
        """The loss of one member's outputs ``"b (2 d)"`` or ``(mean, variance)`` for targets ``"b d"``."""
        # in half precision a small variance and its inverse would overflow
        mean, variance = gaussian_moments(_pytree.tree_map(_at_least_float32, outputs), self.variance, self.eps)
        if targets.shape == mean.shape[:1] and mean.dim() == 2 and mean.shape[1] == 1:
            targets = targets[:, None]
        if targets.shape != mean.shape:
            raise DataError(
                "GaussianNLL",
                found=f"means of shape {tuple(mean.shape)} and targets of shape {tuple(targets.shape)}",
                why="every target has one mean and one variance",
                fix="give the head twice as many outputs as there are targets, and the targets the shape of the means",
            )
        loss = 0.5 * (variance.log() + (targets - mean).square() / variance)
        if self.full:
            loss = loss + 0.5 * math.log(2 * math.pi)
        return loss if self.reduction == "none" else getattr(loss, self.reduction)()

    def extra_repr(self) -> str:
        return f"variance={self.variance!r}, reduction={self.reduction!r}"


def _at_least_float32(leaf: Any) -> Any:
    return leaf.float() if isinstance(leaf, Tensor) and leaf.dtype in (torch.float16, torch.bfloat16) else leaf


def _halves(outputs: Any, axis: int | None) -> tuple[Tensor, Tensor]:
    if isinstance(outputs, Mapping) and {"mean", "variance"} <= outputs.keys():
        pair = (outputs["mean"], outputs["variance"])
    elif isinstance(outputs, (tuple, list)) and len(outputs) == 2:
        pair = (outputs[0], outputs[1])
    elif isinstance(outputs, Tensor) and outputs.dim() > 1:
        axis = axis if axis is not None else 1 if outputs.dim() > 3 else -1
        if outputs.shape[axis] and outputs.shape[axis] % 2 == 0:
            mean, variance = outputs.chunk(2, axis)
            return mean, variance
        pair = (None, None)
    else:
        pair = (None, None)
    if isinstance(pair[0], Tensor) and isinstance(pair[1], Tensor) and pair[0].shape == pair[1].shape:
        return pair[0], pair[1]
    shapes = [tuple(leaf.shape) for leaf in _pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]
    raise DataError(
        "Gaussian head",
        found=f"a {type(outputs).__name__} of tensors of shapes {shapes}"
        if not isinstance(outputs, Tensor)
        else f"one tensor of shape {shapes[0]}",
        why='it gives a mean and a variance of one shape: a pair, a dict, or one tensor "b (2 d)" with the means first',
        fix="give the head twice as many outputs as there are targets",
    )
