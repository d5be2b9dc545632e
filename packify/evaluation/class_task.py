"""Classification: members' log-probabilities and labels of a batch, and what is counted of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from torch import Tensor, nn

from packify.core.errors import DataError
from packify.evaluation.batches import parts_of
from packify.evaluation.classes import (
    Given,
    checked_given,
    class_log_probabilities,
    ensemble_log_probabilities,
    look_like_probabilities,
)
from packify.evaluation.classification import ClassificationMetrics, check_labels
from packify.evaluation.detection import DetectionMetrics
from packify.evaluation.diversity import DiversityMetrics
from packify.evaluation.measures import class_measures
from packify.evaluation.prediction import member_outputs
from packify.evaluation.ranked import MAX_SCORES
from packify.evaluation.results import Evaluation, OodScores
from packify.evaluation.tally import EnsembleTally


@dataclass(frozen=True)
class ClassPiece:
    """Some samples (or pixels) of one batch, as one ensemble sees them.

    Attributes:
        log_p: members' log-probabilities, ``"m n k"``.
        logits: members' logits, ``"m n k"``.
        labels: ``"n"``; None where there are none.
    """

    log_p: Tensor
    logits: Tensor
    labels: Tensor | None

    @property
    def labelled(self) -> bool:
        """Whether there are labels."""
        return self.labels is not None

    def alone(self) -> list[ClassPiece]:
        """Each member's share, as that of an ensemble of one."""
        return [replace(self, log_p=p, logits=own) for p, own in zip(self.log_p.split(1), self.logits.split(1), strict=True)]


@dataclass(frozen=True)
class ClassTask:
    """One class per sample or pixel.

    Attributes:
        output: which of a network's outputs.
        given: whether the outputs are logits or probabilities.
        class_axis: of one member's output.
        ignore_index: labels that do not count.
        num_bins, top_k, max_scores: see `ClassificationMetrics`.
    """

    output: str | int | None = None
    given: Given = "logits"
    class_axis: int | None = None
    ignore_index: int | None = None
    num_bins: int = 15
    top_k: int | None = None
    max_scores: int = MAX_SCORES

    def __post_init__(self) -> None:
        checked_given(self.given)

    def predict(self, networks: Sequence[nn.Module], inputs: Any) -> Tensor:
        """The members' outputs ``"m b k ..."``."""
        return member_outputs(networks, inputs, self.output).detach()

    def pieces(self, outputs: Tensor, labels: Tensor | None, labelled: bool, first: bool) -> Iterator[ClassPiece]:
        """Outputs ``"m b k ..."`` of one batch, a few samples at a time, as ``"m n k"``."""
        if first and self.given == "logits" and outputs.dim() > 2 and look_like_probabilities(outputs, self.class_axis):
            raise DataError(
                "outputs",
                found="numbers that are not negative and sum to 1",
                why="they are taken for logits, and a softmax of probabilities is wrong everywhere",
                fix='pass --outputs probabilities (outputs="probabilities")',
            )
        samples = outputs.shape[1] if outputs.dim() > 1 else 1
        for part in parts_of(samples, outputs.numel()):
            log_p, logits = class_log_probabilities(outputs[:, part] if outputs.dim() > 1 else outputs, self.given, self.class_axis)
            own = None
            if labels is not None:
                own = labels[part] if labels.dim() else labels
                if own.shape != log_p.shape[1:-1] or len(labels) != samples:
                    if labelled:
                        raise _misfit(outputs, log_p.shape[-1], labels)
                    own = None
            log_p, logits, own = self._counted(log_p.flatten(1, -2), logits.flatten(1, -2), own)
            if labelled and own is not None:
                check_labels(own, log_p.shape[-1])
            if log_p.shape[1]:
                yield ClassPiece(log_p, logits, own if labelled else None)

    def tally(self, temperature: float) -> EnsembleTally:
        """Accuracy, calibration, detection and diversity."""
        return EnsembleTally(_Predictor(self, temperature), lambda: _Predictor(self))

    def _counted(self, log_p: Tensor, logits: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """What is left without the samples whose label does not count."""
        if labels is None:
            return log_p, logits, None
        labels = labels.reshape(-1).to(log_p.device)
        if self.ignore_index is None or labels.is_floating_point():
            return log_p, logits, labels
        counted = labels != self.ignore_index
        return log_p[:, counted], logits[:, counted], labels[counted]


class _Predictor:
    """What is counted about one predictor, the ensemble or a member alone."""

    def __init__(self, task: ClassTask, temperature: float = 1.0) -> None:
        self.temperature = temperature
        self.metrics, self.diversity = ClassificationMetrics(task.num_bins, task.top_k, task.max_scores), DiversityMetrics()
        self.detection = {name: DetectionMetrics(task.max_scores) for name in ("max_softmax", "mutual_information", "entropy", "max_logit")}

    def update(self, piece: ClassPiece) -> None:
        log_p = ensemble_log_probabilities(piece.log_p)
        self.metrics.update(log_p if self.temperature == 1 else (log_p / self.temperature).log_softmax(-1), cast("Tensor", piece.labels))
        self.diversity.update(piece.log_p)

    def detect(self, piece: ClassPiece, ood: bool) -> None:
        found = class_measures(piece.log_p, piece.logits)
        # 1 - confidence in float64, so that two confidences that differ are two scores
        scores = (1 - found.confidence.cpu().double(), found.mutual_information, found.entropy, -found.max_logit)
        for metrics, score in zip(self.detection.values(), scores, strict=True):
            metrics.update(score, ood)

    def evaluation(self, members: int, with_ood: bool) -> Evaluation:
        scores = vars(self.metrics.compute()) | vars(self.diversity.compute())
        ood = OodScores(**{name: metrics.compute() for name, metrics in self.detection.items()}) if with_ood else None
        return Evaluation(**scores, num_estimators=members, ood=ood, members=(), shift=None)


def _misfit(outputs: Tensor, classes: int, labels: Tensor) -> DataError:
    return DataError(
        "outputs and labels",
        found=f"outputs of shape {tuple(outputs.shape[1:])} per member, {classes} classes, and labels of shape {tuple(labels.shape)}",
        why='outputs are "b k" for labels "b", or "b k h w" for labels "b h w"',
        fix='pass labels that are class numbers, class_axis where the classes are on another axis, kind="multilabel" or "regression" '
        "for labels as large as the outputs",
    )
