"""Regression: members' means and variances and targets of a batch, and what is counted of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from packify.core.errors import DataError
from packify.evaluation.batches import parts_of
from packify.evaluation.detection import DetectionMetrics
from packify.evaluation.moments import member_moments
from packify.evaluation.prediction import call_members, member_outputs
from packify.evaluation.ranked import MAX_SCORES
from packify.evaluation.regression import RegressionMetrics, check_targets
from packify.evaluation.regression_results import RegressionEvaluation, RegressionOod
from packify.evaluation.tally import EnsembleTally
from packify.training.gaussian import RegressionUncertainty, VarianceForm, gaussian_mixture


@dataclass(frozen=True)
class NumberPiece:
    """Some samples of one batch, as one ensemble sees them.

    Attributes:
        means: members', ``"m n d"``.
        variances: members', ``"m n d"``; None where they predict none.
        targets: ``"n d"``; None where there are none.
    """

    means: Tensor
    variances: Tensor | None
    targets: Tensor | None

    @property
    def labelled(self) -> bool:
        """Whether there are targets."""
        return self.targets is not None

    def alone(self) -> list[NumberPiece]:
        """Each member's share, as that of an ensemble of one."""
        variances = [None] * len(self.means) if self.variances is None else self.variances.split(1)
        return [replace(self, means=mean, variances=own) for mean, own in zip(self.means.split(1), variances, strict=True)]

    def mixture(self) -> RegressionUncertainty:
        """The moments of the members' mixture."""
        return gaussian_mixture(self.means, torch.zeros_like(self.means) if self.variances is None else self.variances)


@dataclass(frozen=True)
class RegressionTask:
    """Numbers, with or without a predicted variance.

    Attributes:
        halved: one tensor holds means and then variances; otherwise it holds numbers alone, and pairs are means and variances.
        output: which of a network's outputs.
        variance: how a head gives its variance.
        max_scores: see `RegressionMetrics`.
    """

    halved: bool = False
    output: str | int | None = None
    variance: VarianceForm = "positive"
    max_scores: int = MAX_SCORES

    def predict(self, networks: Sequence[nn.Module], inputs: Any) -> Any:
        """The members' outputs ``"m b ..."``, in the structure that one network gives."""
        found = call_members(networks, inputs) if self.output is None else member_outputs(networks, inputs, self.output)
        return _pytree.tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, found)

    def pieces(self, outputs: Any, labels: Tensor | None, labelled: bool, first: bool) -> Iterator[NumberPiece]:
        """Outputs of one batch, a few samples at a time."""
        means, variances = member_moments(outputs, self.halved, self.variance)
        targets = _fitting(labels, means, self.halved or variances is not None) if labelled and labels is not None else None
        several = means.dim() == 3  # "m b d"; numbers on a map or along a sequence are all of one kind
        for part in parts_of(means.shape[1], means.numel()):
            yield NumberPiece(
                _in_columns(means[:, part], several),
                None if variances is None else _in_columns(variances[:, part], several),
                None if targets is None else _in_columns(targets[None, part], several)[0],
            )

    def tally(self, temperature: float) -> EnsembleTally:
        """Errors, likelihood, coverage and detection."""
        return EnsembleTally(_Predictor(self), lambda: _Predictor(self))


class _Predictor:
    """What is counted about one predictor, the ensemble or a member alone."""

    def __init__(self, task: RegressionTask) -> None:
        self.metrics = RegressionMetrics(task.max_scores)
        self.detection = {name: DetectionMetrics(task.max_scores) for name in ("variance", "epistemic")}
        self.numbers, self.aleatoric, self.epistemic = 0, 0.0, 0.0

    def update(self, piece: NumberPiece) -> None:
        found = piece.mixture()
        variance = None if piece.variances is None else found.variance
        self.metrics.update(found.mean, variance, cast("Tensor", piece.targets), order_by=found.variance)
        self.numbers += found.mean.numel()
        self.aleatoric += float(found.aleatoric.double().sum())
        self.epistemic += float(found.epistemic.double().sum())

    def detect(self, piece: NumberPiece, ood: bool) -> None:
        found = piece.mixture()
        self.detection["variance"].update(found.variance.flatten(), ood)
        self.detection["epistemic"].update(found.epistemic.flatten(), ood)

    def evaluation(self, members: int, with_ood: bool) -> RegressionEvaluation:
        return RegressionEvaluation(
            **vars(self.metrics.compute()),
            num_estimators=members,
            aleatoric=self.aleatoric / self.numbers,
            epistemic=self.epistemic / self.numbers,
            ood=RegressionOod(**{name: metrics.compute() for name, metrics in self.detection.items()}) if with_ood else None,
            members=(),
            shift=None,
        )


def _in_columns(values: Tensor, several: bool) -> Tensor:
    """``"m b ..."`` as ``"m n d"``: one column for each of several targets, else one for all numbers."""
    return values if several else values.flatten(1)[..., None]


def _fitting(targets: Tensor, means: Tensor, gaussian: bool) -> Tensor:
    """Targets in the shape of one member's means ``"b ..."``; an axis of one target may be left out."""
    wanted = tuple(means.shape[1:])
    shorter = {(*wanted[:axis], *wanted[axis + 1 :]) for axis in range(1, len(wanted)) if wanted[axis] == 1}
    if tuple(targets.shape) not in {wanted, *shorter}:
        raise DataError(
            "outputs and targets",
            found=f"means of shape {wanted} per member and targets of shape {tuple(targets.shape)}",
            why="every predicted number has one target",
            fix="give the head as many outputs as there are targets, and the targets the shape of the outputs"
            if gaussian
            else 'pass kind="gaussian" for a head that gives means and then variances, or targets of the outputs\' shape',
        )
    check_targets(targets)
    return targets.reshape(wanted)
