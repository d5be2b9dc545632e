"""Means and variances of members' outputs of numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from packify.core.errors import DataError
from packify.evaluation.classes import default_class_axis
from packify.training.gaussian import VarianceForm, gaussian_moments


def member_moments(values: Any, halved: bool, variance: VarianceForm) -> tuple[Tensor, Tensor | None]:
    """Members' means and variances, both ``"m b ..."``, in at least float32.

    Args:
        values: ``"m b ..."``, or pairs of mean and variance of that shape.
        halved: one tensor holds the means and then the variances, see `gaussian_moments`; otherwise it holds numbers alone.
        variance: how the head gives its variance.

    Returns:
        Means, and variances or None where the members predict none.

    Raises:
        DataError: values of another type or shape, a variance below 0, NaN or infinite numbers.
    """
    variances: Tensor | None = None
    if isinstance(values, Tensor) and not halved:
        if not values.is_floating_point() or values.dim() < 2:
            raise DataError(
                "members' outputs",
                found=f"{values.dtype} of shape {tuple(values.shape)}",
                why='they are floating-point numbers "m b ...", members first',
                fix="pass packed.members(x)",
            )
        means = _at_least_float32(values)
    else:
        axis = default_class_axis(values.dim() - 1) + 1 if isinstance(values, Tensor) and values.dim() > 1 else None
        means, variances = (_at_least_float32(half) for half in gaussian_moments(values, variance, axis=axis))
    if not bool(means.isfinite().all()) or (variances is not None and not bool(variances.isfinite().all())):
        raise DataError(
            "members' outputs",
            found="NaN or infinite numbers",
            why="no mean and variance follow from them",
            fix="look for overflow in half precision, and for a training that diverged",
        )
    return means, variances


def _at_least_float32(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
