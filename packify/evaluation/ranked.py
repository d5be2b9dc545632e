"""Numbers in the order of their size, in bounded memory: what areas under curves and quantiles are computed from."""

from __future__ import annotations

import torch
from torch import Tensor

from packify.core.spec import whole_number

MAX_SCORES = 2**17
"""Distinct scores that are kept apart by default."""

REJECTIONS = 100
"""Points of a curve over the share of samples that are rejected."""


def kept_counts(samples: int) -> Tensor:
    """How many samples are left when 0 %, 1 %, ... 99 % of them are rejected."""
    return samples * (1 - torch.arange(REJECTIONS, dtype=torch.float64) / REJECTIONS)


_MANTISSA = 52  # binary digits of a float64 behind its leading one


class RankedScores:
    """Scores with weights, added in any number of batches, sorted and with equal scores merged.

    Exact while there are at most `max_scores` distinct scores. Beyond that, scores are rounded towards zero to as many binary digits as
    keep their number below the bound (some 12 for scores between 1e-8 and 1: four decimals), and those that become equal are ties from
    then on. Memory: at most about ``32 * (columns + 1) * max_scores`` bytes, for any number of scores.

    Args:
        columns: numbers that are added up per score.
        max_scores: the bound.

    Raises:
        SpecError: `max_scores` is not a whole number of at least 1.
    """

    def __init__(self, columns: int, max_scores: int = MAX_SCORES) -> None:
        self.max_scores, self._digits = whole_number("max_scores", max_scores), _MANTISSA
        self._scores = torch.empty(0, dtype=torch.float64)
        self._weights = torch.empty(0, columns, dtype=torch.float64)
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._waiting_scores = 0

    @property
    def digits(self) -> int:
        """Binary digits that scores are kept with, behind the leading one; 52 is exact."""
        self._merge()
        return self._digits

    @property
    def exact(self) -> bool:
        """Whether no score was rounded."""
        return self.digits == _MANTISSA

    def update(self, scores: Tensor, *weights: Tensor) -> None:
        """Add scores ``"n"`` with one tensor of weights ``"n"`` per column."""
        columns = [column.detach().to("cpu", torch.float64) for column in weights]
        self._waiting.append((scores.detach().to("cpu", torch.float64) + 0.0, torch.stack(columns, 1)))  # + 0.0 makes -0 a 0
        self._waiting_scores += len(scores)
        if self._waiting_scores >= self.max_scores:
            self._merge()

    def table(self, digits: int | None = None) -> tuple[Tensor, Tensor]:
        """Distinct scores in ascending order, ``"n"``, and the sums of their weights, ``"n columns"``.

        Args:
            digits: round to so many binary digits, to compare with another table.
        """
        self._merge()
        if digits is None or digits >= self.digits:
            return self._scores, self._weights
        return _merged(_rounded(self._scores, digits), self._weights)

    def up_to(self, positions: Tensor) -> Tensor:
        """Sums of the weights of the `positions` smallest scores, ``"p columns"``; the first column counts them, ties are shared evenly."""
        _, weights = self.table()
        totals = torch.cat((weights.new_zeros(1, weights.shape[1]), weights.cumsum(0)))
        counts = totals[:, 0].contiguous()
        above = torch.searchsorted(counts, positions).clamp(1, len(counts) - 1)
        share = ((positions - counts[above - 1]) / (counts[above] - counts[above - 1]))[:, None].clamp(0, 1)
        return totals[above - 1] * (1 - share) + totals[above] * share

    def _merge(self) -> None:
        if not self._waiting:
            return
        scores = torch.cat([self._scores, *(_rounded(scores, self._digits) for scores, _ in self._waiting)])
        weights = torch.cat([self._weights, *(columns for _, columns in self._waiting)])
        self._waiting, self._waiting_scores = [], 0
        self._scores, self._weights = _merged(scores, weights)
        while len(self._scores) > self.max_scores and self._digits:
            self._digits -= 1
            self._scores, self._weights = _merged(_rounded(self._scores, self._digits), self._weights)


def _rounded(scores: Tensor, digits: int) -> Tensor:
    """Scores rounded towards zero to `digits` binary digits behind the leading one; infinities stay."""
    if digits >= _MANTISSA:
        return scores
    return (scores.view(torch.int64) & -(1 << (_MANTISSA - digits))).view(torch.float64) + 0.0


def _merged(scores: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    distinct, places = torch.unique(scores, sorted=True, return_inverse=True)
    return distinct, weights.new_zeros(len(distinct), weights.shape[1]).index_add_(0, places, weights)
