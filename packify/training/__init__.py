"""Training M members side by side: losses, gradient clipping and batches per member, for any trainer."""

from packify.training.clipping import clip_grad_norm_
from packify.training.gaussian import GaussianNLL, RegressionUncertainty, gaussian_mixture, gaussian_moments
from packify.training.independent import IndependentBatchSampler, IndependentCollate
from packify.training.losses import EnsembleLoss, repeat_targets

__all__ = [
    "EnsembleLoss",
    "GaussianNLL",
    "IndependentBatchSampler",
    "IndependentCollate",
    "RegressionUncertainty",
    "clip_grad_norm_",
    "gaussian_mixture",
    "gaussian_moments",
    "repeat_targets",
]
