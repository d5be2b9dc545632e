"""What an evaluation found, as frozen dataclasses that JSON can hold."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar

CONVENTIONS = (
    "All rates are fractions from 0 to 1. An ensemble predicts with the mean of its members' probabilities.",
    "NLL: mean of -log p(label), in nats. Brier: mean over samples of the sum over classes of (p - one-hot)^2, from 0 to 2.",
    "ECE: {num_bins} equal bins of the confidence, upper edges closed, confidence 1 in the last bin.",
    "Adaptive ECE: {num_bins} bins of equally many samples.",
    "AURC: mean over coverages i/n of the error among the i most confident samples; ties in random order, in expectation.",
    "OOD: positive = out-of-distribution; equal scores are one threshold. AUPR is the average precision.",
    "FPR95: share of in-distribution samples flagged when at least 95 % of the out-of-distribution samples are.",
    "Disagreement: share of pairs of members that predict different classes.",
    "KL: mean over ordered pairs of members of KL(p_i || p_j), in nats.",
)


@dataclass(frozen=True, kw_only=True)
class Bin:
    """One bin of a reliability diagram.

    Attributes:
        lower, upper: edges; the upper one belongs to the bin.
        samples: how many.
        confidence, accuracy: their means, 0 where the bin is empty.
    """

    lower: float
    upper: float
    samples: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """In- and out-of-distribution samples by a score.

    Attributes:
        edges: of the bins.
        in_distribution, out_of_distribution: share of the samples in each bin.
    """

    edges: tuple[float, ...]
    in_distribution: tuple[float, ...]
    out_of_distribution: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Detection:
    """How well one score tells out-of-distribution samples (positive, larger scores) from in-distribution ones.

    Attributes:
        auroc: area under the ROC curve; equal scores count one half.
        aupr: average precision.
        fpr95: share of in-distribution samples flagged when at least 95 % of the out-of-distribution samples are.
        in_samples, ood_samples: how many there were.
        exact: whether no score had to be rounded.
        histogram: of the score.
    """

    auroc: float
    aupr: float
    fpr95: float
    in_samples: int
    ood_samples: int
    exact: bool
    histogram: Histogram


@dataclass(frozen=True, kw_only=True)
class OodScores:
    """Detection of out-of-distribution samples by each score; all of them grow with uncertainty.

    Attributes:
        max_softmax: 1 - the largest mean probability.
        mutual_information: entropy of the mean - mean of the entropies (0 for one member: AUROC 0.5).
        entropy: of the mean probabilities.
        max_logit: minus the largest mean logit.
    """

    max_softmax: Detection
    mutual_information: Detection
    entropy: Detection
    max_logit: Detection


class Figures:
    """The metrics of any kind of task, with its conventions."""

    def to_dict(self) -> dict[str, Any]:
        """All values as JSON-able ones; numbers that are not finite, which JSON does not know, are None."""
        found: Any = self
        return {**jsonable(dataclasses.asdict(found)), "conventions": found.conventions}


class Rows:
    """The evaluation of networks on any kind of task, as a row of a table.

    Attributes:
        in_row: the metrics of one set of data that the row holds.
        of_members: those of the members among themselves.
    """

    in_row: ClassVar[tuple[str, ...]]
    of_members: ClassVar[tuple[str, ...]]

    def row(self) -> dict[str, Any]:
        """The figures in one flat dict."""
        found: Any = self
        row = {"members": found.num_estimators, **{name: getattr(found, name) for name in (*self.in_row, *self.of_members)}}
        if found.shift is not None:
            row |= {f"shift_{name}": getattr(found.shift, name) for name in self.in_row}
        for score, detection in vars(found.ood).items() if found.ood is not None else ():
            row |= {f"ood_{score}_{name}": getattr(detection, name) for name in ("auroc", "aupr", "fpr95")}
        return row


@dataclass(frozen=True, kw_only=True)
class ClassificationScores(Figures):
    """Metrics of class probabilities; see `CONVENTIONS`.

    Attributes:
        samples: labelled samples (pixels, for dense predictions).
        accuracy: share of samples whose most probable class is the label.
        top_k_accuracy: share of samples whose label is among the k most probable classes; None unless asked for.
        nll: in nats; infinite where a label has probability 0.
        ece, adaptive_ece, brier, aurc: see `CONVENTIONS`.
        reliability: the bins of the ECE.
        rejection: accuracy on what is kept when 0 %, 1 %, ... 99 % of the samples, the least confident, are rejected.
        exact: whether no confidence had to be rounded for AURC, adaptive ECE and rejection.
    """

    samples: int
    accuracy: float
    top_k_accuracy: float | None
    nll: float
    ece: float
    adaptive_ece: float
    brier: float
    aurc: float
    reliability: tuple[Bin, ...]
    rejection: tuple[float, ...]
    exact: bool

    @property
    def conventions(self) -> str:
        """How the figures are defined."""
        return "\n".join(CONVENTIONS).format(num_bins=len(self.reliability))


@dataclass(frozen=True, kw_only=True)
class Evaluation(ClassificationScores, Rows):
    """Metrics of a network, of each of its members, under shift and against out-of-distribution samples.

    Attributes:
        num_estimators: M.
        disagreement: share of pairs of members that predict different classes, 0 for one member.
        kl: mean over ordered pairs of members of KL(p_i || p_j), in nats, 0 for one member.
        ood: None unless an OOD loader was given.
        members: each member alone; empty for one member.
        shift: the same metrics on the shifted data; None unless they were given.
    """

    in_row: ClassVar = ("accuracy", "nll", "ece", "adaptive_ece", "brier", "aurc")
    of_members: ClassVar = ("disagreement", "kl")
    num_estimators: int
    disagreement: float
    kl: float
    ood: OodScores | None
    members: tuple[Evaluation, ...]
    shift: Evaluation | None

    def line(self) -> str:
        """The figures in one line."""
        return (
            f"accuracy {self.accuracy:.4f}, NLL {self.nll:.4f}, ECE {self.ece:.4f} (adaptive {self.adaptive_ece:.4f}), "
            f"Brier {self.brier:.4f}, AURC {self.aurc:.4f}, disagreement {self.disagreement:.4f}"
        )

    def __str__(self) -> str:
        return told(self, "samples")


@dataclass(frozen=True)
class Comparison:
    """Several networks on the same data.

    Attributes:
        evaluations: by the name of the network, in the order given; all of one kind.
    """

    evaluations: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.evaluations[name]

    def rows(self) -> list[dict[str, Any]]:
        """One flat dict per network, ready for ``pandas.DataFrame``."""
        return [{"name": name, **found.row()} for name, found in self.evaluations.items()]

    def to_dict(self) -> dict[str, Any]:
        """Every evaluation as JSON-able values, by name."""
        return {name: found.to_dict() for name, found in self.evaluations.items()}

    def __str__(self) -> str:
        return "\n".join(f"{name}: {found.line()}" for name, found in self.evaluations.items())


def told(found: Any, what: str) -> str:
    """An evaluation of any kind as a few lines for people."""
    lines = [f"{found.samples:,} {what}, {found.num_estimators} {'member' if found.num_estimators == 1 else 'members'}", found.line()]
    if found.shift is not None:
        lines.append(f"under shift: {found.shift.line()}")
    for name, one in vars(found.ood).items() if found.ood is not None else ():
        lines.append(f"OOD by {name}: AUROC {one.auroc:.4f}, AUPR {one.aupr:.4f}, FPR95 {one.fpr95:.4f}")
    return "\n".join(lines)


def jsonable(value: Any) -> Any:
    """`value` as JSON can hold it; numbers that are not finite, which it does not know, are None."""
    if isinstance(value, dict):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
