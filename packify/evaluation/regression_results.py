"""What an evaluation of predicted numbers found, as frozen dataclasses that JSON can hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from packify.evaluation.results import Detection, Figures, Rows, told

CONVENTIONS = (
    "Every predicted number counts on its own. An ensemble predicts the mixture of its members: mean of the means, variance = mean of",
    "the members' variances (aleatoric) + variance of their means, divided by M (epistemic).",
    "NLL: mean of -log density of a Gaussian of that mean and variance, in nats, with log(2 pi) / 2.",
    "Coverage: share of targets in the central interval of a level. Calibration error: mean over the levels 0.05, 0.1, ... 0.95 of",
    "|coverage - level|. Sharpness: mean predicted standard deviation.",
    "Heads without a variance have neither NLL nor coverage.",
    "Rejection: RMSE of what is kept when 0 %, 1 %, ... 99 % of the numbers, those of the largest variance, are rejected.",
    "OOD: positive = out-of-distribution, larger variances; equal scores are one threshold. AUPR is the average precision.",
    "FPR95: share of in-distribution samples flagged when at least 95 % of the out-of-distribution samples are.",
)


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How many targets lie in the central intervals of one level.

    Attributes:
        level: the share that shall.
        coverage: the share that does.
    """

    level: float
    coverage: float


@dataclass(frozen=True, kw_only=True)
class TargetScores:
    """Metrics of one of several targets ``"b d"``, in its own unit.

    Attributes:
        rmse, mae: in the target's unit.
        nll: in nats; None for heads without a variance.
    """

    rmse: float
    mae: float
    nll: float | None


@dataclass(frozen=True, kw_only=True)
class RegressionOod:
    """Detection of out-of-distribution samples by each variance.

    Attributes:
        variance: of the mixture.
        epistemic: the variance of the members' means (0 for one member: AUROC 0.5).
    """

    variance: Detection
    epistemic: Detection


@dataclass(frozen=True, kw_only=True)
class RegressionScores(Figures):
    """Metrics of predicted numbers; see `CONVENTIONS`.

    Attributes:
        samples: numbers that were predicted.
        rmse, mae: in the targets' unit; for several targets ``"b d"`` over all of them, see `targets`.
        nll: in nats; None for heads without a variance.
        coverage: by level; empty for heads without a variance.
        calibration_error: mean of |coverage - level|; None likewise.
        sharpness: mean predicted standard deviation; None likewise.
        rejection: RMSE on what is kept when 0 %, 1 %, ... 99 % of the numbers, the least certain, are rejected.
        targets: each of several targets alone.
        exact: whether no variance had to be rounded for the rejection.
    """

    samples: int
    rmse: float
    mae: float
    nll: float | None
    coverage: tuple[Coverage, ...]
    calibration_error: float | None
    sharpness: float | None
    rejection: tuple[float, ...]
    targets: tuple[TargetScores, ...]
    exact: bool

    @property
    def conventions(self) -> str:
        """How the figures are defined."""
        return "\n".join(CONVENTIONS)


@dataclass(frozen=True, kw_only=True)
class RegressionEvaluation(RegressionScores, Rows):
    """Metrics of a network of numbers, of each of its members, under shift and against out-of-distribution samples.

    Attributes:
        num_estimators: M.
        aleatoric: mean over the numbers of the members' mean variance; 0 for heads without one.
        epistemic: mean of the variance of the members' means; 0 for one member.
        ood: None unless an OOD loader was given.
        members: each member alone; empty for one member.
        shift: the same metrics on the shifted data; None unless they were given.
    """

    in_row: ClassVar = ("rmse", "mae", "nll", "calibration_error", "sharpness")
    of_members: ClassVar = ("aleatoric", "epistemic")
    num_estimators: int
    aleatoric: float
    epistemic: float
    ood: RegressionOod | None
    members: tuple[RegressionEvaluation, ...]
    shift: RegressionEvaluation | None

    def line(self) -> str:
        """The figures in one line."""
        figures = [f"RMSE {self.rmse:.4g}", f"MAE {self.mae:.4g}"]
        if self.nll is not None:
            figures += [f"NLL {self.nll:.4f}", f"calibration error {self.calibration_error:.4f}", f"sharpness {self.sharpness:.4g}"]
        return ", ".join([*figures, f"variances: aleatoric {self.aleatoric:.4g}, epistemic {self.epistemic:.4g}"])

    def __str__(self) -> str:
        return told(self, "numbers")
