"""How different the members of an ensemble are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Diversity:
    """Means over samples and pairs of members; 0 for one member.

    Attributes:
        disagreement: share of pairs of members that predict different classes.
        kl: mean over ordered pairs of KL(p_i || p_j), in nats; infinite where one member excludes what another holds possible.
    """

    disagreement: float
    kl: float


class DiversityMetrics:
    """Streaming disagreement and pairwise KL of the members of an ensemble, in constant memory."""

    def __init__(self) -> None:
        self._samples = 0
        self._disagreement = self._kl = 0.0

    def update(self, log_probabilities: Tensor) -> None:
        """Add members' log-probabilities ``"m n k"``."""
        members, samples = log_probabilities.shape[:2]
        self._samples += samples
        votes = log_probabilities.argmax(-1)
        divergences, differing = [], []
        for own, vote in zip(log_probabilities, votes, strict=True):
            p = own.exp()
            # towards all members; a member's divergence from itself is 0
            divergences.append(torch.where(p > 0, p * (own - log_probabilities), 0.0).sum(-1))
            differing.append((votes != vote).sum())
        pairs = max(members * (members - 1), 1)
        self._kl += float(torch.stack(divergences).cpu().double().sum()) / pairs
        self._disagreement += int(torch.stack(differing).sum()) / pairs

    def compute(self) -> Diversity:
        """The means over everything added; 0 for nothing."""
        samples = max(self._samples, 1)
        return Diversity(self._disagreement / samples, max(self._kl, 0.0) / samples)
