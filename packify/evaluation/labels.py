"""Accuracy, average precision and calibration of several labels per sample, from batches of any number."""

from __future__ import annotations

import statistics

import torch
from torch import Tensor

from packify.core.errors import DataError
from packify.evaluation.classification import bin_edges
from packify.evaluation.detection import DetectionMetrics
from packify.evaluation.label_results import LabelScores, OneLabel
from packify.evaluation.ranked import MAX_SCORES
from packify.evaluation.results import Bin

# All labels together keep about so many times `max_scores` distinct probabilities apart, each label at least so many.
_TIMES, _LEAST = 8, 1024


class LabelMetrics:
    """Streaming metrics of labels of which a sample may have several; conventions in `packify.evaluation.label_results.CONVENTIONS`.

    Memory does not grow with the data: all sums are exact; average precision and AUROC are exact for up to `max_scores` distinct
    probabilities of a label, see `RankedScores`; of K > 8 labels each has 8 / K of that, and at least 1024.

    Args:
        num_bins: of the ECE.
        max_scores: distinct probabilities that are kept apart.
    """

    def __init__(self, num_bins: int = 15, max_scores: int = MAX_SCORES) -> None:
        self.num_bins, self.max_scores = num_bins, max_scores
        self._samples = self._exact_matches = 0
        self._sums = torch.zeros(0, 5, dtype=torch.float64)  # per label: samples, positives, right decisions, NLL, Brier
        self._bins = torch.zeros(0, num_bins, 3, dtype=torch.float64)  # per label and bin: samples, sum of p, positives
        self._ranked: list[DetectionMetrics] = []

    def update(self, log_p: Tensor, labels: Tensor, counted: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            log_p: log-probabilities of the absence and presence of each label, ``"n k 2"``.
            labels: ``"n k"``, 0 or 1.
            counted: ``"n k"``, which of them count; None for all.
        """
        log_p, labels = log_p.detach().cpu().double(), labels.detach().cpu().long()
        counted = torch.ones_like(labels, dtype=torch.bool) if counted is None else counted.cpu()
        log_p, labels, counted = (each[counted.any(1)] for each in (log_p, labels, counted))
        if not self._ranked:
            count = labels.shape[1]
            self._sums, self._bins = torch.zeros(count, 5).double(), torch.zeros(count, self.num_bins, 3).double()
            most = min(self.max_scores, max(_LEAST, _TIMES * self.max_scores // max(count, 1)))
            self._ranked = [DetectionMetrics(most) for _ in range(count)]
        p = log_p[..., 1].exp()
        right = (log_p[..., 1] > log_p[..., 0]) == labels.bool()
        nll = -log_p.gather(-1, labels[..., None])[..., 0]
        rows = torch.stack((torch.ones_like(p), labels.double(), right.double(), nll, (p - labels).square()), -1)
        self._samples += len(labels)
        self._exact_matches += int((right | ~counted).all(1).sum())
        self._sums = self._sums + torch.where(counted[..., None], rows, 0.0).sum(0)
        # compared in float32, so that 0.2 of a network is the edge 3/15 and not a little above it
        places = torch.bucketize(p.float(), bin_edges(self.num_bins, torch.float32)[1:-1])
        logits = log_p[..., 1] - log_p[..., 0]
        for label, metrics in enumerate(self._ranked):
            own = counted[:, label]
            self._bins[label].index_add_(
                0, places[own, label], torch.stack((own[own].double(), p[own, label], labels[own, label].double()), 1)
            )
            for present in (False, True):
                metrics.update(logits[own & (labels[:, label] == int(present)), label], present)

    def compute(self) -> LabelScores:
        """The metrics of everything added.

        Raises:
            DataError: nothing was added.
        """
        if not self._samples:
            raise DataError("metrics", found="no labelled sample", why="means of nothing are no numbers", fix="add a batch first")
        labels = tuple(self._label(number) for number in range(len(self._ranked)) if self._sums[number, 0])
        decisions, _, right, nll, brier = self._sums.sum(0).tolist()
        precisions = [one.average_precision for one in labels if one.average_precision is not None]
        edges, bins = bin_edges(self.num_bins, torch.float64).tolist(), self._bins.sum(0).tolist()
        return LabelScores(
            samples=self._samples,
            accuracy=right / decisions,
            exact_match=self._exact_matches / self._samples,
            nll=nll / decisions,
            brier=brier / decisions,
            ece=statistics.fmean(one.ece for one in labels),
            mean_average_precision=statistics.fmean(precisions) if precisions else None,
            labels=labels,
            reliability=tuple(
                Bin(lower=edges[i], upper=edges[i + 1], samples=int(n), confidence=p / max(n, 1), accuracy=present / max(n, 1))
                for i, (n, p, present) in enumerate(bins)
            ),
            exact=all(metrics.exact for metrics in self._ranked),
        )

    def _label(self, number: int) -> OneLabel:
        samples, positives, right, _, _ = self._sums[number].tolist()
        _, confidence, present = self._bins[number].T
        found = self._ranked[number].compute() if 0 < positives < samples else None
        precision = found.aupr if found is not None else 1.0 if positives else None
        return OneLabel(
            label=number,
            samples=int(samples),
            positives=int(positives),
            accuracy=right / samples,
            average_precision=precision,
            auroc=None if found is None else found.auroc,
            ece=float((confidence - present).abs().sum()) / samples,
        )
