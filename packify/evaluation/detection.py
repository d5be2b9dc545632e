"""Telling out-of-distribution samples from in-distribution ones by a score."""

from __future__ import annotations

import torch
from torch import Tensor

from packify.core.errors import DataError
from packify.evaluation.ranked import MAX_SCORES, RankedScores
from packify.evaluation.results import Detection, Histogram

_RECALL = 0.95
_BARS = 40


class DetectionMetrics:
    """Streaming AUROC, AUPR and FPR95 of one score; positive = out-of-distribution, where the score is larger.

    Memory does not grow with the data: exact for up to `max_scores` distinct scores on each side; beyond, scores are rounded and those
    that become equal are ties, see `RankedScores`.

    Example:
        >>> metrics = DetectionMetrics()
        >>> metrics.update(entropy_of_test_images, ood=False)
        >>> metrics.update(entropy_of_other_images, ood=True)
        >>> metrics.compute().auroc
    """

    def __init__(self, max_scores: int = MAX_SCORES) -> None:
        self._sides = {False: RankedScores(1, max_scores), True: RankedScores(1, max_scores)}

    def update(self, scores: Tensor, ood: bool) -> None:
        """Add scores ``"n"`` of one side.

        Raises:
            DataError: a score is NaN.
        """
        if bool(scores.isnan().any()):
            raise DataError("scores", found="NaN", why="it has no place in an order", fix="look for overflow in the network's outputs")
        self._sides[ood].update(scores.flatten(), torch.ones_like(scores.flatten()))

    @property
    def exact(self) -> bool:
        """Whether no score was rounded."""
        return all(side.exact for side in self._sides.values())

    def compute(self) -> Detection:
        """The metrics of everything added.

        Raises:
            DataError: there are only in-distribution or only out-of-distribution samples.
        """
        digits = min(side.digits for side in self._sides.values())
        (inner, inner_counts), (outer, outer_counts) = (self._sides[ood].table(digits) for ood in (False, True))
        if not len(inner) or not len(outer):
            raise DataError(
                "out-of-distribution detection",
                found=f"{int(inner_counts.sum())} in-distribution and {int(outer_counts.sum())} out-of-distribution samples",
                why="one kind alone cannot be told apart from anything",
                fix="pass data of both kinds",
            )
        scores, places = torch.unique(torch.cat((inner, outer)), sorted=True, return_inverse=True)
        nothing = torch.zeros(len(scores), dtype=torch.float64)
        negative = nothing.index_add(0, places[: len(inner)], inner_counts[:, 0])
        positive = nothing.index_add(0, places[len(inner) :], outer_counts[:, 0])
        negatives, positives = float(negative.sum()), float(positive.sum())
        below = negative.cumsum(0) - negative
        # thresholds from the largest score down; everything at or above one is flagged
        caught, flagged = positive.flip(0).cumsum(0), negative.flip(0).cumsum(0)
        enough = int((caught / positives >= _RECALL).nonzero()[0])
        return Detection(
            auroc=float((positive * (below + negative / 2)).sum()) / (positives * negatives),
            aupr=float((positive.flip(0) * caught / (caught + flagged)).sum()) / positives,
            fpr95=float(flagged[enough]) / negatives,
            in_samples=int(negatives),
            ood_samples=int(positives),
            exact=self.exact,
            histogram=_histogram(scores, negative, positive),
        )


def _histogram(scores: Tensor, negative: Tensor, positive: Tensor) -> Histogram:
    finite = scores[scores.isfinite()]
    low, high = (float(finite[0]), float(finite[-1])) if len(finite) else (0.0, 1.0)
    if not high > low:
        low, high = low - 0.5, high + 0.5
    edges = torch.linspace(low, high, _BARS + 1, dtype=torch.float64)
    places = torch.bucketize(scores, edges[1:-1])
    shares = [
        tuple((torch.zeros(_BARS, dtype=torch.float64).index_add_(0, places, side) / side.sum()).tolist()) for side in (negative, positive)
    ]
    return Histogram(edges=tuple(edges.tolist()), in_distribution=shares[0], out_of_distribution=shares[1])
