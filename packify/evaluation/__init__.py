"""Trusting a network: measures of uncertainty, evaluation of ensembles and single networks, calibration."""

from packify.evaluation.calibration import Calibration
from packify.evaluation.classification import ClassificationMetrics
from packify.evaluation.comparison import compare, evaluate
from packify.evaluation.conformal import ConformalSets
from packify.evaluation.detection import DetectionMetrics
from packify.evaluation.diversity import Diversity, DiversityMetrics
from packify.evaluation.label_results import LabelEvaluation, LabelOod, LabelScores, OneLabel
from packify.evaluation.labels import LabelMetrics
from packify.evaluation.measures import Uncertainty, uncertainty
from packify.evaluation.plots import check_picture, plot_evaluation
from packify.evaluation.regression import RegressionMetrics
from packify.evaluation.regression_results import Coverage, RegressionEvaluation, RegressionOod, RegressionScores, TargetScores
from packify.evaluation.results import CONVENTIONS, ClassificationScores, Comparison, Detection, Evaluation, OodScores
from packify.evaluation.temperature import TemperatureScaling
from packify.training.gaussian import RegressionUncertainty

__all__ = [
    "CONVENTIONS",
    "Calibration",
    "ClassificationMetrics",
    "ClassificationScores",
    "Comparison",
    "ConformalSets",
    "Coverage",
    "Detection",
    "DetectionMetrics",
    "Diversity",
    "DiversityMetrics",
    "Evaluation",
    "LabelEvaluation",
    "LabelMetrics",
    "LabelOod",
    "LabelScores",
    "OneLabel",
    "OodScores",
    "RegressionEvaluation",
    "RegressionMetrics",
    "RegressionOod",
    "RegressionScores",
    "RegressionUncertainty",
    "TargetScores",
    "TemperatureScaling",
    "Uncertainty",
    "check_picture",
    "compare",
    "evaluate",
    "plot_evaluation",
    "uncertainty",
]
