"""Evaluating networks: ensembles, packed or not, and single ones, on labelled, shifted and out-of-distribution data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from packify.core.errors import DataError, SpecError
from packify.evaluation.batches import Piece, Progress, Reader, Split, batches_in
from packify.evaluation.classes import Given, checked_given
from packify.evaluation.classification import ClassificationMetrics
from packify.evaluation.detection import DetectionMetrics
from packify.evaluation.diversity import DiversityMetrics
from packify.evaluation.measures import Uncertainty, class_measures
from packify.evaluation.prediction import Network, as_networks, in_eval_mode
from packify.evaluation.ranked import MAX_SCORES
from packify.evaluation.results import Comparison, Evaluation, OodScores


def evaluate(
    network: Network,
    loader: Iterable[Any],
    *,
    ood: Iterable[Any] | None = None,
    shift: Iterable[Any] | None = None,
    ignore_index: int | None = None,
    num_bins: int = 15,
    top_k: int | None = None,
    outputs: Given = "logits",
    output: str | int | None = None,
    class_axis: int | None = None,
    split: Split | None = None,
    temperature: float = 1.0,
    max_scores: int = MAX_SCORES,
    progress: Progress | None = None,
) -> Evaluation:
    """Accuracy, calibration, out-of-distribution detection and diversity of a classifier, in one pass over the data.

    Everything is streamed: memory does not grow with the data. All metrics are exact for up to `max_scores` distinct confidences (and
    scores); beyond that AURC, adaptive ECE and the detection of out-of-distribution samples round them, and `exact` says so.

    The network runs without gradients, in evaluation mode, on the device where it is, and has the mode it had afterwards. A packed
    network's prediction is the mean of its members' softmax, whatever ``packed.average`` is.

    Args:
        network: a packed network, any other network (one member), or a list of networks (a Deep Ensemble).
        loader: batches of inputs and labels ``"b"``, or ``"b h w"`` for outputs ``"b k h w"``; see `split`.
        ood: batches of out-of-distribution inputs; labels in them are not read.
        shift: batches like the loader's, of shifted data.
        ignore_index: labels that do not count, such as 255 in segmentation.
        num_bins: of the ECE.
        top_k: also measure the accuracy among the k most probable classes.
        outputs: whether the network gives logits or probabilities.
        output: which of the network's outputs, where it has several: a key or a position.
        class_axis: of one member's output; by default 1 for ``"b k h w"``, else the last.
        split: cuts a batch into inputs and labels; by default the last item of a tuple, or what a dict calls labels, is the labels.
        temperature: divides the ensemble's logits (see `TemperatureScaling`); members alone and OOD scores are left as they are.
        max_scores: distinct scores that are kept apart.
        progress: called with the batches done and all batches (0 where a loader has no length).

    Raises:
        DataError: an empty loader, labels that do not fit the outputs or are outside the classes, NaN in the outputs.
        SpecError: an option has an impossible value.

    Example:
        >>> found = packify.evaluate(packed, test_loader, ood=svhn_loader)
        >>> found.accuracy, found.ece, found.ood.mutual_information.auroc
    """
    return compare(
        {"": network},
        loader,
        ood=ood,
        shift=shift,
        ignore_index=ignore_index,
        num_bins=num_bins,
        top_k=top_k,
        outputs=outputs,
        output=output,
        class_axis=class_axis,
        split=split,
        temperature=temperature,
        max_scores=max_scores,
        progress=progress,
    )[""]


@torch.no_grad()
def compare(
    networks: Mapping[str, Network],
    loader: Iterable[Any],
    *,
    ood: Iterable[Any] | None = None,
    shift: Iterable[Any] | None = None,
    ignore_index: int | None = None,
    num_bins: int = 15,
    top_k: int | None = None,
    outputs: Given = "logits",
    output: str | int | None = None,
    class_axis: int | None = None,
    split: Split | None = None,
    temperature: float | Mapping[str, float] = 1.0,
    max_scores: int = MAX_SCORES,
    progress: Progress | None = None,
) -> Comparison:
    """`evaluate` for several networks, all on the same batches, each of which is read once.

    Args:
        networks: by name; each a packed network, a single one, or a list of networks.
        temperature: one for all, or by name (1 where a name is missing).
        loader, ood, shift, ignore_index, num_bins, top_k, outputs, output, class_axis, split, max_scores, progress: as for `evaluate`.

    Raises:
        DataError, SpecError: as for `evaluate`, and when there is no network.

    Example:
        >>> packify.compare({"single": model, "packed": packed, "Deep Ensemble": [model, *others]}, test_loader).rows()
    """
    if not networks:
        raise DataError("compare", found="no network", why="there is nothing to evaluate", fix='pass {"packed": packed, "single": model}')
    checked_given(outputs)
    given = {name: as_networks(network) for name, network in networks.items()}
    reader = Reader(given, split, output, outputs, class_axis, ignore_index)
    temperatures = temperature if isinstance(temperature, Mapping) else dict.fromkeys(networks, temperature)

    def tallies() -> dict[str, _Tally]:
        return {name: _Tally(num_bins, top_k, max_scores, checked_temperature(temperatures.get(name, 1.0))) for name in networks}

    labelled, shifted = tallies(), tallies()
    steps = _Steps(progress, batches_in(loader, shift, ood))
    with in_eval_mode([one for several in given.values() for one in several]):
        for piece in reader.read(loader, "the loader", step=steps):
            labelled[piece.name].update(piece, detect=ood is not None)
        for piece in reader.read(shift, "the shifted data", step=steps) if shift is not None else ():
            shifted[piece.name].update(piece)
        for piece in reader.read(ood, "the out-of-distribution data", labelled=False, step=steps) if ood is not None else ():
            labelled[piece.name].update_ood(piece)
    return Comparison(
        {
            name: tally.evaluation(shifted[name].evaluation() if shift is not None else None, with_ood=ood is not None)
            for name, tally in labelled.items()
        }
    )


class _Steps:
    """Counts batches for a progress callback."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


class _Predictor:
    """What is counted about one predictor, the ensemble or a member alone."""

    def __init__(self, num_bins: int, top_k: int | None, max_scores: int) -> None:
        self.metrics = ClassificationMetrics(num_bins, top_k, max_scores)
        self.detection = {name: DetectionMetrics(max_scores) for name in ("max_softmax", "mutual_information", "entropy", "max_logit")}

    def detect(self, found: Uncertainty, ood: bool) -> None:
        # 1 - confidence in float64, so that two confidences that differ are two scores
        scores = (1 - found.confidence.cpu().double(), found.mutual_information, found.entropy, -found.max_logit)
        for metrics, score in zip(self.detection.values(), scores, strict=True):
            metrics.update(score, ood)

    def ood(self) -> OodScores:
        return OodScores(**{name: metrics.compute() for name, metrics in self.detection.items()})


class _Tally:
    """What is counted about one ensemble on one set of labelled data."""

    def __init__(self, num_bins: int, top_k: int | None, max_scores: int, temperature: float) -> None:
        self.options = (num_bins, top_k, max_scores)
        self.temperature = temperature
        self.ensemble, self.diversity = _Predictor(*self.options), DiversityMetrics()
        self.members: list[_Predictor] = []

    def update(self, piece: Piece, detect: bool = False) -> None:
        if not isinstance(piece.labels, Tensor):
            return
        self.members = self.members or [_Predictor(*self.options) for _ in piece.log_p]
        mean_log_p = ensemble_log_probabilities(piece.log_p)
        calibrated = mean_log_p if self.temperature == 1 else (mean_log_p / self.temperature).log_softmax(-1)
        self.ensemble.metrics.update(calibrated, piece.labels)
        self.diversity.update(piece.log_p)
        if len(self.members) > 1:
            for member, log_p in zip(self.members, piece.log_p, strict=True):
                member.metrics.update(log_p, piece.labels)
        if detect:
            self._detect(piece, ood=False)

    def update_ood(self, piece: Piece) -> None:
        self._detect(piece, ood=True)

    def evaluation(self, shift: Evaluation | None = None, with_ood: bool = False) -> Evaluation:
        found = _evaluation(self.ensemble, len(self.members), with_ood)
        diversity = self.diversity.compute()
        alone = tuple(_evaluation(member, 1, with_ood) for member in self.members) if len(self.members) > 1 else ()
        return replace(found, disagreement=diversity.disagreement, kl=diversity.kl, members=alone, shift=shift)

    def _detect(self, piece: Piece, ood: bool) -> None:
        self.ensemble.detect(class_measures(piece.log_p, piece.logits), ood)
        if len(self.members) > 1:
            for number, member in enumerate(self.members):
                one = slice(number, number + 1)
                member.detect(class_measures(piece.log_p[one], piece.logits[one]), ood)


def ensemble_log_probabilities(log_p: Tensor) -> Tensor:
    """Log of the mean over members of probabilities, ``"m n k -> n k"``: the ensemble's logits (paper, eq. 5)."""
    return log_p.logsumexp(0) - math.log(len(log_p))


def checked_temperature(value: float) -> float:
    """`value`, if it is a positive number.

    Raises:
        SpecError: it is not.
    """
    if not math.isfinite(value) or value <= 0:
        raise SpecError(
            "temperature", found=repr(value), why="logits are divided by it", fix="pass a positive number, such as TemperatureScaling's"
        )
    return float(value)


def _evaluation(predictor: _Predictor, members: int, with_ood: bool) -> Evaluation:
    scores = predictor.metrics.compute()
    ood = predictor.ood() if with_ood else None
    return Evaluation(**vars(scores), num_estimators=members, disagreement=0.0, kl=0.0, ood=ood, members=(), shift=None)
