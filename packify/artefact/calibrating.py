"""The calibration of a saved network: read from its config.json, or written into it later."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from packify.artefact.config import CONFIG_FILE, Config, read_config
from packify.artefact.folder import not_written, path_of
from packify.artefact.leftovers import clear_leftovers, own_workplace
from packify.core.errors import ArtefactError
from packify.evaluation.calibration import Calibration


def load_calibration(folder: str | Path) -> Calibration:
    """What was fitted for the network in `folder`; without temperature and sets where nothing was.

    Raises:
        ArtefactError: there is no artefact, or its config cannot be read.
    """
    return read_config(path_of(folder)).calibration


def save_calibration(folder: str | Path, calibration: Calibration) -> None:
    """Write `calibration` into the artefact in `folder`, in place of the one that it has; its weights stay as they are.

    Raises:
        ArtefactError: there is no artefact, it holds a single member of one, or the place may not be written.
    """
    folder = path_of(folder)
    config = with_calibration(read_config(folder), folder, calibration)
    clear_leftovers(folder)
    try:
        with own_workplace(folder) as place:
            try:
                place.part.mkdir()
                fresh = place.part / CONFIG_FILE
                fresh.write_text(config.to_json(), encoding="utf-8")
                fresh.replace(folder / CONFIG_FILE)
            finally:
                shutil.rmtree(place.part, ignore_errors=True)
    except OSError as error:
        raise not_written(folder, error) from error


def with_calibration(config: Config, folder: Path, calibration: Calibration) -> Config:
    """`config` with another calibration.

    Raises:
        ArtefactError: it is of a single member.
    """
    if config.kind == "member" and calibration != Calibration():
        raise ArtefactError(
            str(folder),
            found=f"member {config.member} alone",
            why="a calibration is of an ensemble's predictions",
            fix="pass the artefact of the packed network",
        )
    return dataclasses.replace(config, calibration=calibration)
