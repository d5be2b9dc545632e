"""Conformal sets: sets of classes that hold the true one at a chosen rate, whatever the network (split conformal prediction)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from packify.core.errors import DataError, SpecError
from packify.evaluation.classes import checked_temperature
from packify.evaluation.collect import calibration_batches, class_logits, is_finite_number
from packify.evaluation.prediction import Network
from packify.evaluation.ranked import MAX_SCORES, RankedScores

Method = Literal["threshold", "aps"]


@dataclass
class ConformalSets:
    """Sets of classes, each of which holds the true class with probability of at least `coverage` over new samples.

    The guarantee is marginal (on average over samples, not for each class) and holds when new samples are exchangeable with those it was
    fitted on: not under shift.

    Attributes:
        method: ``"threshold"`` takes all classes with a probability of at least 1 - `quantile` (LAC, Sadinle et al. 2019): the smallest
            sets on average; a set may be empty. ``"aps"`` takes a class when the classes that are more probable sum to at most the
            quantile (Romano et al. 2020, without randomisation): larger sets for harder samples, never empty.
        coverage: share of new samples whose set shall hold the true class, between 0 and 1.
        temperature: divides the logits first.
        quantile: of the calibration scores; None before `fit`; infinite where there were too few samples for the coverage, so that every
            set is full.
        samples: how many it was fitted on.

    Raises:
        SpecError: a value is not one of these.

    Example:
        >>> sets = ConformalSets("aps", coverage=0.95).fit(packed, validation_loader)
        >>> sets(packed(images))  # "b k", True for the classes in the set
    """

    method: Method = "threshold"
    coverage: float = 0.9
    temperature: float = 1.0
    quantile: float | None = None
    samples: int = 0

    def __post_init__(self) -> None:
        _check(self.method, self.coverage)
        checked_temperature(self.temperature)

    def fit(
        self,
        network_or_logits: Network | Tensor,
        loader_or_labels: Iterable[Any] | Tensor,
        *,
        max_scores: int = MAX_SCORES,
        **options: Any,
    ) -> ConformalSets:
        """Set the quantile by held-out data, which nothing else (training, temperature) has used, and return this object.

        Args:
            network_or_logits: a packed network, a single one or a list of networks, with a loader; or an ensemble's logits ``"n k"``.
            loader_or_labels: batches of inputs and labels, or labels ``"n"``.
            max_scores: distinct scores that are kept apart; beyond, the quantile is rounded up, so that the coverage holds.
            options: ``ignore_index``, ``outputs``, ``output``, ``class_axis``, ``split``, as `packify.evaluate` takes them.

        Raises:
            DataError: as `packify.evaluate`.
            SpecError: `max_scores` is not a whole number of at least 1.
        """
        ranked = RankedScores(1, max_scores)
        samples = 0
        for logits, labels in calibration_batches(network_or_logits, loader_or_labels, options):
            scores = _scores(logits, self.method, self.temperature).gather(1, labels[:, None])[:, 0]
            ranked.update(scores, torch.ones_like(scores))
            samples += len(labels)
        if not samples:
            raise DataError("ConformalSets", found="no labelled sample", why="nothing can be fitted", fix="pass held-out data with labels")
        # the smallest whole number of at least (n + 1) * coverage, with the coverage as it is written
        position = math.ceil((samples + 1) * Fraction(str(float(self.coverage))))
        self.quantile, self.samples = _quantile(ranked, position), samples
        return self

    def __call__(self, logits: Tensor, axis: int = -1) -> Tensor:
        """Which classes are in the set of each sample, as booleans of the logits' shape.

        Args:
            logits: an ensemble's, ``"b k"``, such as ``packed(x)`` in evaluation mode.
            axis: of the classes; 1 for maps ``"b k h w"``.

        Raises:
            DataError: they are no logits, or NaN; or `fit` was not called.
        """
        if self.quantile is None:
            raise DataError("ConformalSets", found="no quantile", why="sets need calibration data", fix="call fit(packed, loader) first")
        scores = _scores(class_logits(logits, axis).double(), self.method, self.temperature)
        return (scores <= self.quantile).movedim(-1, axis)

    def to_dict(self) -> dict[str, Any]:
        """The state as JSON-able values; an infinite quantile is ``"infinite"``."""
        return {"kind": "conformal", **vars(self), "quantile": "infinite" if self.quantile == math.inf else self.quantile}

    @classmethod
    def from_dict(cls, values: object) -> ConformalSets:
        """The inverse of `to_dict`, for values that anybody may have written.

        Raises:
            DataError: they are not what `to_dict` gives.
            SpecError: a value is out of range.
        """
        if not isinstance(values, Mapping) or values.get("kind") != "conformal" or set(values) != {"kind", *cls.__dataclass_fields__}:
            raise _unreadable(values)
        quantile, samples = values["quantile"], values["samples"]
        numbers = (values["coverage"], values["temperature"], 0 if quantile in (None, "infinite") else quantile)
        if not all(map(is_finite_number, numbers)) or type(samples) is not int or samples < 0:
            raise _unreadable(values)
        quantile = None if quantile is None else math.inf if quantile == "infinite" else float(quantile)
        return cls(values["method"], float(values["coverage"]), float(values["temperature"]), quantile, samples)


def _scores(logits: Tensor, method: str, temperature: float) -> Tensor:
    """How badly each class fits, ``"... k"``: 1 - its probability, or the sum of the probabilities of the classes before it."""
    p = (logits / temperature).softmax(-1)
    if method == "threshold":
        return 1 - p
    ordered, order = torch.sort(p, dim=-1, descending=True, stable=True)
    before = torch.cat((torch.zeros_like(ordered[..., :1]), ordered[..., :-1].cumsum(-1)), -1)
    return torch.empty_like(p).scatter_(-1, order, before)


def _quantile(ranked: RankedScores, position: int) -> float:
    """The `position`-th smallest score, rounded up where scores were rounded; infinite beyond the last."""
    scores, weights = ranked.table()
    counts = weights[:, 0].cumsum(0)
    if position > counts[-1]:
        return math.inf
    row = int(torch.searchsorted(counts, torch.tensor(float(position), dtype=torch.float64)))
    score = float(scores[row])
    return score if ranked.exact else math.nextafter(score * (1 + 2.0**-ranked.digits), math.inf)


def _check(method: object, coverage: object) -> None:
    if method not in get_args(Method):
        raise SpecError(
            f"ConformalSets(method={method!r})",
            found=repr(method),
            why="sets are made by a threshold on probabilities or by their sums",
            fix='pass method="threshold" or method="aps"',
        )
    if not isinstance(coverage, (int, float)) or isinstance(coverage, bool) or not 0 < coverage < 1:
        raise SpecError(
            "ConformalSets: coverage",
            found=repr(coverage),
            why="it is the share of sets that hold the true class, between 0 and 1",
            fix="pass for example coverage=0.9",
        )


def _unreadable(values: object) -> DataError:
    return DataError(
        "ConformalSets.from_dict", found=f"{values!r:.200}", why="it is no state of conformal sets", fix="pass what to_dict() gave"
    )
