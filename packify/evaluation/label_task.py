"""Several labels per sample: members' log-probabilities and labels of a batch, and what is counted of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from packify.core.errors import DataError, SpecError
from packify.evaluation.batches import parts_of
from packify.evaluation.classes import Given, checked_given, default_class_axis, ensemble_log_probabilities, label_log_probabilities
from packify.evaluation.detection import DetectionMetrics
from packify.evaluation.diversity import DiversityMetrics
from packify.evaluation.label_results import LabelEvaluation, LabelOod
from packify.evaluation.labels import LabelMetrics
from packify.evaluation.measures import label_measures
from packify.evaluation.prediction import member_outputs
from packify.evaluation.ranked import MAX_SCORES
from packify.evaluation.tally import EnsembleTally


@dataclass(frozen=True)
class LabelPiece:
    """Some samples (or pixels) of one batch, as one ensemble sees them.

    Attributes:
        log_p: members' log-probabilities of absence and presence, ``"m n k 2"``.
        logits: members' logits, ``"m n k"``.
        labels: ``"n k"``; None where there are none.
        counted: ``"n k"``, which labels count.
    """

    log_p: Tensor
    logits: Tensor
    labels: Tensor | None
    counted: Tensor | None

    @property
    def labelled(self) -> bool:
        """Whether there are labels."""
        return self.labels is not None

    def alone(self) -> list[LabelPiece]:
        """Each member's share, as that of an ensemble of one."""
        return [replace(self, log_p=p, logits=own) for p, own in zip(self.log_p.split(1), self.logits.split(1), strict=True)]


@dataclass(frozen=True)
class LabelTask:
    """A sigmoid for each label.

    Attributes:
        output: which of a network's outputs.
        given: whether the outputs are logits or probabilities.
        label_axis: of one member's output; by default 1 for ``"b k h w"``, else the last.
        ignore_index: labels of a sample that do not count.
        num_bins, max_scores: see `LabelMetrics`.
    """

    output: str | int | None = None
    given: Given = "logits"
    label_axis: int | None = None
    ignore_index: int | None = None
    num_bins: int = 15
    max_scores: int = MAX_SCORES

    def __post_init__(self) -> None:
        checked_given(self.given)

    def predict(self, networks: Sequence[nn.Module], inputs: Any) -> Tensor:
        """The members' outputs ``"m b k ..."``."""
        return member_outputs(networks, inputs, self.output).detach()

    def pieces(self, outputs: Tensor, labels: Tensor | None, labelled: bool, first: bool) -> Iterator[LabelPiece]:
        """Outputs ``"m b k ..."`` of one batch, a few samples at a time, as ``"m n k"``."""
        outputs = outputs[..., None] if outputs.dim() == 2 else outputs  # a network of one label may leave its axis out
        axis = self._axis(outputs)
        own = self._fitting(labels, outputs) if labelled and labels is not None else None
        for part in parts_of(outputs.shape[1], 2 * outputs.numel()):
            values = outputs[:, part].movedim(axis + 1, -1).flatten(1, -2)
            log_p, logits = label_log_probabilities(values, self.given)
            if own is None:
                yield LabelPiece(log_p, logits, None, None)
                continue
            truth = own[part].movedim(axis, -1).flatten(0, -2)
            counted = truth != self.ignore_index if self.ignore_index is not None else torch.ones_like(truth, dtype=torch.bool)
            yield LabelPiece(log_p, logits, torch.where(counted, truth, 0), counted)

    def tally(self, temperature: float) -> EnsembleTally:
        """Accuracy, average precision, calibration, detection and diversity."""
        return EnsembleTally(_Predictor(self), lambda: _Predictor(self))

    def _axis(self, outputs: Tensor) -> int:
        ndim = outputs.dim() - 1
        axis = default_class_axis(ndim) if self.label_axis is None else self.label_axis % ndim if abs(self.label_axis) < ndim else 0
        if axis < 1:
            raise SpecError(
                f"class_axis={self.label_axis}",
                found=f"outputs of shape {tuple(outputs.shape[1:])} per member",
                why="it is an axis of one member's output, behind the batch",
                fix=f"pass a number from 1 to {ndim - 1}",
            )
        return axis

    def _fitting(self, labels: Tensor, outputs: Tensor) -> Tensor:
        """Labels as whole numbers in the shape of one member's outputs ``"b k ..."``."""
        wanted = tuple(outputs.shape[1:])
        axis = self._axis(outputs)
        if tuple(labels.shape) != wanted and not (wanted[axis] == 1 and (*wanted[:axis], *wanted[axis + 1 :]) == tuple(labels.shape)):
            raise DataError(
                "outputs and labels",
                found=f"outputs of shape {wanted} per member and labels of shape {tuple(labels.shape)}",
                why="every label of every sample has one logit, and is 0 or 1",
                fix='pass labels as large as the outputs, or kind="classification" for one class per sample',
            )
        values = labels.reshape(wanted).to(outputs.device)
        plain = (values == 0) | (values == 1) | (values == self.ignore_index if self.ignore_index is not None else values == 1)
        if labels.is_complex() or not bool(plain.all()):
            odd = values[~plain].flatten()
            raise DataError(
                "labels",
                found=f"the number {odd[0].item():g}" if len(odd) else str(labels.dtype),
                why="a sample has a label or does not have it: 1 or 0",
                fix="pass ignore_index for labels that do not count; round soft labels",
            )
        return values.long()


class _Predictor:
    """What is counted about one predictor, the ensemble or a member alone."""

    def __init__(self, task: LabelTask) -> None:
        self.metrics, self.diversity = LabelMetrics(task.num_bins, task.max_scores), DiversityMetrics()
        self.detection = {name: DetectionMetrics(task.max_scores) for name in ("mutual_information", "entropy", "max_logit")}

    def update(self, piece: LabelPiece) -> None:
        labels, counted = cast("Tensor", piece.labels), cast("Tensor", piece.counted)
        self.metrics.update(ensemble_log_probabilities(piece.log_p), labels, counted)
        self.diversity.update(piece.log_p[:, counted])

    def detect(self, piece: LabelPiece, ood: bool) -> None:
        found = label_measures(piece.log_p, piece.logits)
        scores = (found.mutual_information.mean(-1), found.entropy.mean(-1), -found.max_logit.amax(-1))
        for metrics, score in zip(self.detection.values(), scores, strict=True):
            metrics.update(score, ood)

    def evaluation(self, members: int, with_ood: bool) -> LabelEvaluation:
        scores = vars(self.metrics.compute()) | vars(self.diversity.compute())
        ood = LabelOod(**{name: metrics.compute() for name, metrics in self.detection.items()}) if with_ood else None
        return LabelEvaluation(**scores, num_estimators=members, ood=ood, members=(), shift=None)
