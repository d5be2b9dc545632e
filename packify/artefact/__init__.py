"""A packed network (or one member) as a folder of `config.json` and `model.safetensors`: written all at once, read without unpickling."""

from packify.artefact.calibrating import load_calibration, save_calibration
from packify.artefact.config import CARD_FILE, CONFIG_FILE, FORMAT, WEIGHTS_FILE, Config, read_config
from packify.artefact.folder import check_target
from packify.artefact.loading import load, located
from packify.artefact.saving import save, save_member

__all__ = [
    "CARD_FILE",
    "CONFIG_FILE",
    "FORMAT",
    "WEIGHTS_FILE",
    "Config",
    "check_target",
    "load",
    "load_calibration",
    "located",
    "read_config",
    "save",
    "save_calibration",
    "save_member",
]
