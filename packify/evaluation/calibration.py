"""What was fitted on held-out data to make a network's confidence honest, as one value that is saved with its artefact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from packify.core.errors import DataError
from packify.evaluation.conformal import ConformalSets
from packify.evaluation.temperature import TemperatureScaling


@dataclass(frozen=True)
class Calibration:
    """A fitted temperature, fitted conformal sets, or both.

    It belongs to the ensemble whose predictions it was fitted on, not to its members or to other weights. `packify.load` changes no
    output by it: ``packed(x)`` stays the log of the mean softmax, and what is to be applied is called, as below. `packify evaluate`
    divides the ensemble's logits by the temperature unless another one is given.

    Attributes:
        temperature: divides logits.
        sets: of classes, at a chosen coverage; it divides logits by its own temperature first.

    Raises:
        DataError: the sets were not fitted.

    Example:
        >>> scaling = packify.TemperatureScaling().fit(packed, validation_loader)
        >>> packify.save(packed, "ensemble", calibration=packify.Calibration(scaling))
        >>> packed, calibration = packify.load("ensemble"), packify.load_calibration("ensemble")
        >>> probabilities = calibration.temperature(packed(images)).softmax(-1)
    """

    temperature: TemperatureScaling | None = None
    sets: ConformalSets | None = None

    def __post_init__(self) -> None:
        for name, value, kind in (("temperature", self.temperature, TemperatureScaling), ("sets", self.sets, ConformalSets)):
            if value is not None and not isinstance(value, kind):
                raise DataError(
                    f"Calibration({name}=...)",
                    found=f"a {type(value).__name__}",
                    why=f"it is a {kind.__name__}",
                    fix=f"pass packify.{kind.__name__}().fit(packed, loader)",
                )
        if self.sets is not None and self.sets.quantile is None:
            raise DataError(
                "Calibration(sets=...)", found="no quantile", why="the sets were not fitted", fix="call sets.fit(packed, loader) first"
            )

    def to_dict(self) -> dict[str, Any]:
        """Both as JSON-able values; what is missing is left out."""
        return {name: value.to_dict() for name, value in (("temperature", self.temperature), ("sets", self.sets)) if value is not None}

    @classmethod
    def from_dict(cls, values: object) -> Calibration:
        """The inverse of `to_dict`, for values that anybody may have written.

        Raises:
            DataError, SpecError: they are not what `to_dict` gives.
        """
        if not isinstance(values, Mapping) or not values.keys() <= {"temperature", "sets"}:
            raise DataError(
                "Calibration.from_dict", found=f"{values!r:.200}", why="it is no state of a calibration", fix="pass what to_dict() gave"
            )
        temperature = TemperatureScaling.from_dict(values["temperature"]) if "temperature" in values else None
        return cls(temperature, ConformalSets.from_dict(values["sets"]) if "sets" in values else None)
