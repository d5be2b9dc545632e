"""What an evaluation of several labels per sample found, as frozen dataclasses that JSON can hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from packify.evaluation.results import Bin, Detection, Figures, Rows, told

CONVENTIONS = (
    "All rates are fractions from 0 to 1. An ensemble predicts each label with the mean of its members' probabilities (sigmoids).",
    "Accuracy, NLL (nats), Brier ((p - y)^2): means over all decisions, one for each sample and label that counts.",
    "Exact match: share of samples all of whose labels are right. A label is predicted where p > 0.5.",
    "Mean average precision: over the labels that at least one sample has. AUROC of a label needs samples with and without it.",
    "ECE of a label: {num_bins} equal bins of p, upper edges closed, |mean p - share of samples with the label|. ECE: mean over labels.",
    "OOD: positive = out-of-distribution; entropy and mutual information are means over labels; equal scores are one threshold.",
    "FPR95: share of in-distribution samples flagged when at least 95 % of the out-of-distribution samples are.",
    "Disagreement: share of pairs of members that decide differently. KL: mean over ordered pairs of KL(p_i || p_j), in nats, per label.",
)


@dataclass(frozen=True, kw_only=True)
class OneLabel:
    """Metrics of one label.

    Attributes:
        label: its number among the outputs.
        samples: for which the label counts.
        positives: that have it.
        accuracy: share of right decisions.
        average_precision: area under precision and recall; None where no sample has the label.
        auroc: None where all samples have it, or none.
        ece: see `CONVENTIONS`.
    """

    label: int
    samples: int
    positives: int
    accuracy: float
    average_precision: float | None
    auroc: float | None
    ece: float


@dataclass(frozen=True, kw_only=True)
class LabelOod:
    """Detection of out-of-distribution samples by each score; all of them grow with uncertainty.

    Attributes:
        mutual_information: mean over labels (0 for one member: AUROC 0.5).
        entropy: mean over labels.
        max_logit: minus the largest mean logit.
    """

    mutual_information: Detection
    entropy: Detection
    max_logit: Detection


@dataclass(frozen=True, kw_only=True)
class LabelScores(Figures):
    """Metrics of several labels per sample; see `CONVENTIONS`.

    Attributes:
        samples: with at least one label that counts.
        accuracy, exact_match, nll, brier, ece: see `CONVENTIONS`.
        mean_average_precision: None where no sample has any label.
        labels: each label alone that counts for a sample, in the order of the outputs.
        reliability: bins of p over all decisions; `confidence` is the mean p, `accuracy` the share that have the label.
        exact: whether no probability had to be rounded for average precision and AUROC.
    """

    samples: int
    accuracy: float
    exact_match: float
    nll: float
    brier: float
    ece: float
    mean_average_precision: float | None
    labels: tuple[OneLabel, ...]
    reliability: tuple[Bin, ...]
    exact: bool

    @property
    def conventions(self) -> str:
        """How the figures are defined."""
        return "\n".join(CONVENTIONS).format(num_bins=len(self.reliability))


@dataclass(frozen=True, kw_only=True)
class LabelEvaluation(LabelScores, Rows):
    """Metrics of a network of labels, of each of its members, under shift and against out-of-distribution samples.

    Attributes:
        num_estimators: M.
        disagreement: share of pairs of members that decide differently, 0 for one member.
        kl: mean over ordered pairs of members and labels of KL(p_i || p_j), in nats, 0 for one member.
        ood: None unless an OOD loader was given.
        members: each member alone; empty for one member.
        shift: the same metrics on the shifted data; None unless they were given.
    """

    in_row: ClassVar = ("accuracy", "exact_match", "mean_average_precision", "nll", "ece", "brier")
    of_members: ClassVar = ("disagreement", "kl")
    num_estimators: int
    disagreement: float
    kl: float
    ood: LabelOod | None
    members: tuple[LabelEvaluation, ...]
    shift: LabelEvaluation | None

    def line(self) -> str:
        """The figures in one line."""
        precision = "none" if self.mean_average_precision is None else f"{self.mean_average_precision:.4f}"
        return (
            f"accuracy {self.accuracy:.4f}, exact match {self.exact_match:.4f}, mAP {precision}, NLL {self.nll:.4f}, ECE {self.ece:.4f}, "
            f"Brier {self.brier:.4f}, disagreement {self.disagreement:.4f}"
        )

    def __str__(self) -> str:
        return told(self, f"samples of {len(self.labels)} labels")
