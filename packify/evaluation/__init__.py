"""Trusting a network: measures of uncertainty, evaluation of ensembles and single networks, calibration."""

from packify.evaluation.classification import ClassificationMetrics
from packify.evaluation.comparison import compare, evaluate
from packify.evaluation.detection import DetectionMetrics
from packify.evaluation.diversity import Diversity, DiversityMetrics
from packify.evaluation.measures import Uncertainty, uncertainty
from packify.evaluation.results import CONVENTIONS, ClassificationScores, Comparison, Detection, Evaluation, OodScores
from packify.training.gaussian import RegressionUncertainty

__all__ = [
    "CONVENTIONS",
    "ClassificationMetrics",
    "ClassificationScores",
    "Comparison",
    "Detection",
    "DetectionMetrics",
    "Diversity",
    "DiversityMetrics",
    "Evaluation",
    "OodScores",
    "RegressionUncertainty",
    "Uncertainty",
    "compare",
    "evaluate",
    "uncertainty",
]
