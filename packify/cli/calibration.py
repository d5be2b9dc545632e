"""The temperature of `packify evaluate`: the artefact's own, or fitted on held-out images and saved with it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

    from packify.evaluation.classes import Given


def saved_temperature(directory: Path) -> float:
    """The temperature that is saved with the artefact; 1 where there is none."""
    from packify import artefact

    fitted = artefact.load_calibration(directory).temperature
    return 1.0 if fitted is None else fitted.temperature


def check_calibration(directory: Path, temperature: float | None) -> None:
    """Whether a temperature can be fitted and saved, before any work.

    Raises:
        SpecError: one is given too.
        ArtefactError: the artefact is of a single member.
    """
    from packify import artefact
    from packify.artefact.calibrating import with_calibration
    from packify.core.errors import SpecError
    from packify.evaluation import Calibration, TemperatureScaling

    if temperature is not None:
        raise SpecError(
            "--calibrate", found=f"--temperature {temperature:g} too", why="one fits what the other gives", fix="leave one of them out"
        )
    with_calibration(artefact.read_config(directory), directory, Calibration(TemperatureScaling()))


def fit_temperature(directory: Path, network: nn.Module, loader: Any, dtype: torch.dtype, outputs: Given = "logits") -> float:
    """The temperature that fits held-out data, after it was saved with the artefact."""
    from packify import artefact
    from packify.evaluation import TemperatureScaling

    scaling = TemperatureScaling().fit(network, loader, outputs=outputs, split=lambda batch: (batch[0].to(dtype), batch[1]))
    artefact.save_calibration(directory, dataclasses.replace(artefact.load_calibration(directory), temperature=scaling))
    return scaling.temperature
