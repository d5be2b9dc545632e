"""Accuracy, NLL, Brier score, calibration and selective prediction, from batches of any number."""

from __future__ import annotations

import torch
from torch import Tensor

from packify.core.errors import DataError, SpecError
from packify.evaluation.ranked import MAX_SCORES, RankedScores, kept_counts
from packify.evaluation.results import Bin, ClassificationScores


class ClassificationMetrics:
    """Streaming metrics of class probabilities; conventions in `packify.evaluation.CONVENTIONS`.

    Memory does not grow with the data: all sums are exact; AURC, adaptive ECE and the rejection curve are exact for up to `max_scores`
    distinct confidences, see `RankedScores`.

    Args:
        num_bins: of both kinds of ECE.
        top_k: also measure the accuracy among the k most probable classes.
        max_scores: distinct confidences that are kept apart.

    Raises:
        SpecError: a number is not a whole number of at least 1.

    Example:
        >>> metrics = ClassificationMetrics()
        >>> for images, labels in loader:
        ...     metrics.update(network(images).log_softmax(-1), labels)
        >>> metrics.compute().ece
    """

    def __init__(self, num_bins: int = 15, top_k: int | None = None, max_scores: int = MAX_SCORES) -> None:
        for name, value in (("num_bins", num_bins), ("top_k", top_k), ("max_scores", max_scores)):
            if value is not None and (type(value) is not int or value < 1):
                raise SpecError(name, found=repr(value), why="it is a whole number of at least 1", fix=f"leave {name} out")
        self.num_bins, self.top_k = num_bins, top_k
        self._samples = 0
        self._correct = self._top_k_correct = 0
        self._nll = self._brier = 0.0
        self._bins = torch.zeros(num_bins, 3, dtype=torch.float64)  # samples, sum of confidences, correct ones
        # by 1 - confidence, exactly: samples, correct ones, sum of confidences; the most confident come first
        self._ranked = RankedScores(3, max_scores)

    def update(self, log_probabilities: Tensor, labels: Tensor) -> None:
        """Add a batch.

        Args:
            log_probabilities: ``"n k"``, of at least float32.
            labels: ``"n"``, whole numbers from 0 to k - 1.

        Raises:
            DataError: shapes or types that do not fit, labels outside the classes, NaN.
        """
        _check(log_probabilities, labels)
        labels = labels.to(log_probabilities.device).long()[:, None]
        probabilities = log_probabilities.exp()
        confidence, predicted = probabilities.max(-1)
        confidence = confidence.clamp(max=1).cpu()
        correct = (predicted == labels[:, 0]).cpu()
        self._samples += len(labels)
        self._correct += int(correct.sum())
        if self.top_k is not None:
            self._top_k_correct += int((_ranks(log_probabilities, labels) < self.top_k).sum())
        self._nll -= float(log_probabilities.gather(1, labels).cpu().double().sum())
        missed = probabilities.scatter_add(1, labels, -torch.ones_like(probabilities[:, :1]))
        self._brier += float(missed.square().sum(1).cpu().double().sum())
        self._update_bins(confidence, correct)
        self._ranked.update(1 - confidence.double(), torch.ones_like(confidence), correct, confidence)

    def compute(self) -> ClassificationScores:
        """The metrics of everything added.

        Raises:
            DataError: nothing was added.
        """
        if not self._samples:
            raise DataError("metrics", found="no labelled sample", why="means of nothing are no numbers", fix="add a batch first")
        samples = self._samples
        counts, confidences, correct = self._bins.T
        edges = bin_edges(self.num_bins, torch.float64).tolist()
        return ClassificationScores(
            samples=samples,
            accuracy=self._correct / samples,
            top_k_accuracy=None if self.top_k is None else self._top_k_correct / samples,
            nll=self._nll / samples,
            ece=float((confidences - correct).abs().sum()) / samples,
            adaptive_ece=self._adaptive_ece(),
            brier=self._brier / samples,
            aurc=self._aurc(),
            reliability=tuple(
                Bin(lower=edges[i], upper=edges[i + 1], samples=int(n), confidence=float(c / max(n, 1)), accuracy=float(a / max(n, 1)))
                for i, (n, c, a) in enumerate(zip(counts.tolist(), confidences.tolist(), correct.tolist(), strict=True))
            ),
            rejection=self._rejection(),
            exact=self._ranked.exact,
        )

    @property
    def ranked(self) -> RankedScores:
        """Samples, correct ones and confidences by 1 - confidence."""
        return self._ranked

    def _update_bins(self, confidence: Tensor, correct: Tensor) -> None:
        # compared in the confidence's own precision, so that 0.2 in float32 is the edge 3/15 and not a little above it
        places = torch.bucketize(confidence, bin_edges(self.num_bins, confidence.dtype)[1:-1])
        rows = torch.stack((torch.ones_like(confidence), confidence, correct.to(confidence.dtype)), 1).double()
        self._bins.index_add_(0, places, rows)

    def _aurc(self) -> float:
        """The mean over i = 1 ... n of the error among the i most confident samples, ties in random order, in expectation.

        In a tie of c samples with e errors behind n0 samples with e0 errors, the expected error among the first n0 + j samples is
        (e0 + e j / c) / (n0 + j); the sum over j has the closed form used here, with harmonic numbers.
        """
        _, weights = self._ranked.table()
        counts, errors = weights[:, 0], weights[:, 0] - weights[:, 1]
        before, errors_before = counts.cumsum(0) - counts, errors.cumsum(0) - errors
        rate = errors / counts
        harmonic = torch.where(counts == 1, 1 / (before + 1), torch.digamma(before + counts + 1) - torch.digamma(before + 1))
        return float((errors + (errors_before - rate * before) * harmonic).sum()) / self._samples

    def _adaptive_ece(self) -> float:
        """The ECE over bins of equally many samples (the first of them one larger where they do not divide); a tie on an edge is shared."""
        size, larger = divmod(self._samples, self.num_bins)
        sizes = torch.full((self.num_bins,), size, dtype=torch.float64)
        sizes[self.num_bins - larger :] += 1  # the table starts with the most confident, the bins with the least
        _, correct, confidences = self._ranked.up_to(torch.cat((torch.zeros(1, dtype=torch.float64), sizes.cumsum(0)))).T
        return float((confidences.diff() - correct.diff()).abs().sum()) / self._samples

    def _rejection(self) -> tuple[float, ...]:
        kept = kept_counts(self._samples)
        _, correct, _ = self._ranked.up_to(kept).T
        return tuple((correct / kept).tolist())


def bin_edges(num_bins: int, dtype: torch.dtype) -> Tensor:
    """Edges of equal bins of 0 to 1."""
    return (torch.arange(num_bins + 1, dtype=torch.float64) / num_bins).to(dtype)


def _ranks(log_probabilities: Tensor, labels: Tensor) -> Tensor:
    """How many classes come before the label's: those more probable, and of equals the ones with a smaller number."""
    own = log_probabilities.gather(1, labels)
    numbers = torch.arange(log_probabilities.shape[1], device=labels.device)
    return (log_probabilities > own).sum(1) + ((log_probabilities == own) & (numbers < labels)).sum(1)


def _check(log_probabilities: Tensor, labels: Tensor) -> None:
    if log_probabilities.dim() != 2 or labels.shape != log_probabilities.shape[:1] or not log_probabilities.is_floating_point():
        raise DataError(
            "metrics",
            found=f"log-probabilities of shape {tuple(log_probabilities.shape)} and labels of shape {tuple(labels.shape)}",
            why='they are "n k" and "n"',
            fix="pass network(x).log_softmax(-1) and the labels of the batch",
        )
    check_labels(labels, log_probabilities.shape[1])
    if bool(log_probabilities.isnan().any()):
        raise DataError("metrics", found="NaN", why="no metric follows from it", fix="look for overflow, and for a training that diverged")


def check_labels(labels: Tensor, classes: int) -> None:
    """Raise DataError unless all labels are whole numbers from 0 to classes - 1."""
    if labels.is_floating_point() or labels.is_complex():
        raise DataError(
            "labels",
            found=f"{labels.dtype} of shape {tuple(labels.shape)}",
            why="a label is the number of a class",
            fix='pass whole numbers; of one-hot labels, labels.argmax(1); kind="regression" for numbers',
        )
    if labels.numel() and not (int(labels.min()) >= 0 and int(labels.max()) < classes):
        raise DataError(
            "labels",
            found=f"numbers from {int(labels.min())} to {int(labels.max())}",
            why=f"the network has {classes} classes, numbered from 0 to {classes - 1}",
            fix="pass ignore_index for labels that do not count, or a network and data of the same classes",
        )
