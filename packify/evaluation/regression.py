"""Errors, likelihood and coverage of predicted numbers, from batches of any number."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from packify.core.errors import DataError
from packify.evaluation.ranked import MAX_SCORES, RankedScores, kept_counts
from packify.evaluation.regression_results import Coverage, RegressionScores, TargetScores

LEVELS = tuple(step / 20 for step in range(1, 20))
"""Of the central intervals whose coverage is measured: 0.05, 0.1, ... 0.95."""


class RegressionMetrics:
    """Streaming metrics of predicted means and variances; conventions in `packify.evaluation.regression_results.CONVENTIONS`.

    Memory does not grow with the data: everything is exact but the curve of rejection, which is for up to `max_scores` distinct
    variances, see `RankedScores`.

    Args:
        max_scores: distinct variances that are kept apart.

    Example:
        >>> metrics = RegressionMetrics()
        >>> metrics.update(mean, variance, targets)  # each "n d"
        >>> metrics.compute().calibration_error
    """

    def __init__(self, max_scores: int = MAX_SCORES) -> None:
        self._samples = 0
        self._square = self._absolute = self._nll = torch.zeros(0, dtype=torch.float64)  # per target
        self._with_variance = True
        self._deviations = 0.0
        self._covered = torch.zeros(len(LEVELS) + 1, dtype=torch.float64)
        self._ranked = RankedScores(2, max_scores)  # by variance: numbers, squared errors

    def update(self, mean: Tensor, variance: Tensor | None, targets: Tensor, order_by: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            mean: ``"n d"``.
            variance: ``"n d"``; None where none is predicted.
            targets: ``"n d"``.
            order_by: what numbers are rejected by; the variance where it is left out.

        Raises:
            DataError: shapes that do not fit, targets that are NaN or infinite.
        """
        if mean.dim() != 2 or targets.shape != mean.shape or (variance is not None and variance.shape != mean.shape):
            shapes = [None if each is None else tuple(each.shape) for each in (mean, variance, targets)]
            raise DataError(
                "metrics", found=f"mean, variance and targets of shapes {shapes}", why='they are "n d"', fix="pass three of one shape"
            )
        check_targets(targets)
        mean, targets = mean.detach().cpu().double(), targets.detach().cpu().double()
        if not self._samples:
            self._square = self._absolute = self._nll = mean.new_zeros(mean.shape[1])
        error = (targets - mean).abs()
        self._samples += len(mean)
        self._square, self._absolute = self._square + error.square().sum(0), self._absolute + error.sum(0)
        if variance is None:
            self._with_variance = False
        else:
            self._update_density(error, variance.detach().cpu().double())
        order = order_by if order_by is not None else variance if variance is not None else torch.zeros_like(mean)
        self._ranked.update(order.flatten(), torch.ones_like(error).flatten(), error.square().flatten())

    def compute(self) -> RegressionScores:
        """The metrics of everything added.

        Raises:
            DataError: nothing was added.
        """
        if not self._samples:
            raise DataError("metrics", found="no target", why="means of nothing are no numbers", fix="add a batch first")
        numbers, known = self._samples * len(self._square), self._with_variance
        covered = (self._covered.cumsum(0)[: len(LEVELS)] / numbers).tolist() if known else []
        kept = kept_counts(numbers)
        return RegressionScores(
            samples=numbers,
            rmse=math.sqrt(float(self._square.sum()) / numbers),
            mae=float(self._absolute.sum()) / numbers,
            nll=float(self._nll.sum()) / numbers if known else None,
            coverage=tuple(Coverage(level=level, coverage=share) for level, share in zip(LEVELS, covered, strict=known)),
            calibration_error=sum(abs(share - level) for level, share in zip(LEVELS, covered, strict=True)) / len(LEVELS)
            if known
            else None,
            sharpness=self._deviations / numbers if known else None,
            rejection=tuple((self._ranked.up_to(kept)[:, 1] / kept).clamp(min=0).sqrt().tolist()),
            targets=tuple(self._target(number) for number in range(len(self._square))) if len(self._square) > 1 else (),
            exact=self._ranked.exact,
        )

    def _update_density(self, error: Tensor, variance: Tensor) -> None:
        deviation = variance.sqrt()
        self._nll = self._nll + (
            0.5 * ((error.square() / variance).nan_to_num(0.0, math.inf) + variance.log() + math.log(2 * math.pi))
        ).sum(0)
        self._deviations += float(deviation.sum())
        # half the width of the central interval of each level, in standard deviations
        widths = math.sqrt(2) * torch.erfinv(torch.tensor(LEVELS, dtype=torch.float64))
        places = torch.bucketize((error / deviation).nan_to_num(0.0, math.inf), widths)  # no error at no variance is covered
        self._covered += torch.bincount(places.flatten(), minlength=len(LEVELS) + 1)

    def _target(self, number: int) -> TargetScores:
        return TargetScores(
            rmse=math.sqrt(float(self._square[number]) / self._samples),
            mae=float(self._absolute[number]) / self._samples,
            nll=float(self._nll[number]) / self._samples if self._with_variance else None,
        )


def check_targets(targets: Tensor) -> None:
    """Raise DataError unless all targets are finite."""
    if not bool(targets.isfinite().all()):
        raise DataError(
            "targets", found="NaN or infinite numbers", why="no error follows from them", fix="leave samples without a target out"
        )
