"""Temperature scaling (Guo et al. 2017): one number that makes confidences honest and changes no prediction."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from packify.core.errors import DataError
from packify.core.spec import whole_number
from packify.evaluation.classes import checked_temperature
from packify.evaluation.collect import calibration_batches, is_finite_number
from packify.evaluation.prediction import Network

_LOWEST, _HIGHEST = 1e-2, 1e2
_STEPS = 60
_AT_ONCE = 2**22


@dataclass
class TemperatureScaling:
    """Divides an ensemble's logits by a temperature that was fitted on held-out data.

    The logits are those of the ensemble, log of the mean softmax: what ``packed(x)`` returns in evaluation mode. The most probable class
    stays what it is.

    Attributes:
        temperature: above 1 lowers the confidence, below 1 raises it.
        nll_before, nll_after: on the data that it was fitted on, in nats; None where it was not fitted.
        samples: how many it was fitted on.
        at_limit: whether the best temperature lies outside 0.01 to 100 and the nearer of these was taken: every sample is right (a
            confidence of 1 would be best), or the network is no better than chance.

    Raises:
        SpecError: the temperature is not a positive number.

    Example:
        >>> scaling = TemperatureScaling().fit(packed, validation_loader)
        >>> probabilities = scaling(packed(images)).softmax(-1)
        >>> packify.evaluate(packed, test_loader, temperature=scaling.temperature)
    """

    temperature: float = 1.0
    nll_before: float | None = None
    nll_after: float | None = None
    samples: int = 0
    at_limit: bool = False

    def __post_init__(self) -> None:
        checked_temperature(self.temperature)

    def fit(
        self, network_or_logits: Network | Tensor, loader_or_labels: Iterable[Any] | Tensor, *, max_samples: int = 100_000, **options: Any
    ) -> TemperatureScaling:
        """Set the temperature to that of the smallest NLL on held-out data, and return this object.

        The NLL is convex in 1 / temperature, so that its one minimum is found from anywhere: Newton's method, kept inside a bracket.

        Args:
            network_or_logits: a packed network, a single one or a list of networks, with a loader; or an ensemble's logits ``"n k"``.
            loader_or_labels: batches of inputs and labels, or labels ``"n"``.
            max_samples: of a larger data set (pixels), so many are drawn at random, each equally likely, with a fixed seed.
            options: ``ignore_index``, ``outputs``, ``output``, ``class_axis``, ``split``, as `packify.evaluate` takes them.

        Raises:
            DataError: as `packify.evaluate`; or a label has probability 0, which no temperature changes.
            SpecError: `max_samples` is not a whole number of at least 1.
        """
        most = whole_number("max_samples", max_samples)
        logits, labels = _sample(calibration_batches(network_or_logits, loader_or_labels, options), most)
        own = logits.gather(1, labels[:, None])
        if not bool(own.isfinite().all()):
            raise DataError(
                "TemperatureScaling",
                found="a label whose logit is -inf",
                why="its probability is 0 at every temperature, and the NLL infinite",
                fix="look at the masked classes of the network, or leave that sample out",
            )
        # differences to the label's logit: the NLL at 1 / temperature = b is the mean of logsumexp(b * difference)
        differences = logits - own
        log_b, at_limit = _minimum(differences)
        self.temperature, self.samples, self.at_limit = math.exp(-log_b), len(labels), at_limit
        self.nll_before, self.nll_after = _nll(differences, 0.0)[0], _nll(differences, log_b)[0]
        return self

    def __call__(self, logits: Tensor) -> Tensor:
        """Logits ``"... k"``, or with the classes on any other axis, divided by the temperature."""
        return logits / self.temperature

    def to_dict(self) -> dict[str, Any]:
        """The state as JSON-able values."""
        return {"kind": "temperature", **vars(self)}

    @classmethod
    def from_dict(cls, values: object) -> TemperatureScaling:
        """The inverse of `to_dict`, for values that anybody may have written.

        Raises:
            DataError: they are not what `to_dict` gives.
        """
        if not isinstance(values, Mapping) or values.get("kind") != "temperature" or not is_finite_number(values.get("temperature")):
            raise DataError(
                "TemperatureScaling.from_dict",
                found=f"{values!r:.200}",
                why="it is no state of a temperature",
                fix="pass what to_dict() gave",
            )
        before, after = (float(values[name]) if is_finite_number(values.get(name)) else None for name in ("nll_before", "nll_after"))
        samples = values.get("samples")
        return cls(float(values["temperature"]), before, after, samples if type(samples) is int else 0, values.get("at_limit") is True)


def _sample(batches: Iterable[tuple[Tensor, Tensor]], most: int) -> tuple[Tensor, Tensor]:
    """All samples, or `most` of them drawn at random: those with the smallest of as many random keys."""
    generator = torch.Generator().manual_seed(0)
    logits, labels, keys = torch.empty(0), torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.float64)
    waiting: list[tuple[Tensor, Tensor, Tensor]] = []

    def merge() -> None:
        nonlocal logits, labels, keys
        parts = ([(logits, labels, keys)] if len(labels) else []) + waiting
        if parts:
            logits, labels, keys = (torch.cat(column) for column in zip(*parts, strict=True))
        if len(keys) > most:
            chosen = keys.topk(most, largest=False).indices
            logits, labels, keys = logits[chosen], labels[chosen], keys[chosen]
        waiting.clear()

    for batch_logits, batch_labels in batches:
        waiting.append((batch_logits, batch_labels, torch.rand(len(batch_labels), generator=generator, dtype=torch.float64)))
        if sum(len(part[1]) for part in waiting) >= most:
            merge()
    merge()
    if not len(labels):
        raise DataError(
            "calibration", found="no labelled sample", why="nothing can be fitted", fix="pass held-out data with labels that count"
        )
    return logits, labels


def _minimum(differences: Tensor) -> tuple[float, bool]:
    """Log b of the smallest NLL, and whether it lies outside the bracket."""
    low, high = -math.log(_HIGHEST), -math.log(_LOWEST)
    if _nll(differences, low)[1] >= 0:
        return low, True
    if _nll(differences, high)[1] <= 0:
        return high, True
    log_b = 0.0
    for _ in range(_STEPS):
        _, slope, curvature = _nll(differences, log_b)
        low, high = (log_b, high) if slope < 0 else (low, log_b)
        b = math.exp(log_b)
        newton = b - slope / curvature if curvature > 0 else 0.0
        step = math.log(newton) if newton > 0 else math.inf
        new = step if low < step < high else (low + high) / 2
        if abs(new - log_b) < 1e-10:
            return new, False
        log_b = new
    return log_b, False


def _nll(differences: Tensor, log_b: float) -> tuple[float, float, float]:
    """Mean of logsumexp(b * difference), and its first and second derivative in b."""
    b = math.exp(log_b)
    sums = [0.0, 0.0, 0.0]
    for part in differences.split(max(1, _AT_ONCE // differences.shape[1])):
        scaled = b * part
        p = scaled.softmax(1)
        weighted = torch.where(p > 0, p * part, 0.0)
        mean = weighted.sum(1, keepdim=True)
        variance = torch.where(p > 0, p * (part - mean).square(), 0.0).sum(1)
        for position, values in enumerate((scaled.logsumexp(1), mean, variance)):
            sums[position] += float(values.sum())
    nll, slope, curvature = (total / len(differences) for total in sums)
    return nll, slope, curvature
