"""What a weights file says of the network it was saved from, so that a config.json that says something else is found out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from packify.artefact.config import Config
from packify.core.method_specs import MethodSpec
from packify.core.spec import Spec

# The keys of the file's metadata that are not about the network.
_FORMAT = {"format": "pt"}


def metadata_of(spec: Spec | MethodSpec, inputs: str) -> dict[str, str]:
    """The metadata of `model.safetensors`: ``{"format": "pt", "alpha": "2.0", "num_estimators": "4", ..., "inputs": "shared"}``."""
    if isinstance(spec, MethodSpec):
        return {**_FORMAT, **{name: str(value) for name, value in spec.to_dict().items()}, "inputs": inputs}
    numbers = {name: str(float(value)) if name == "alpha" else str(value) for name, value in asdict(spec).items()}
    return {**_FORMAT, **numbers, "inputs": inputs}


def disagreements(config: Config, metadata: Mapping[str, str] | None) -> list[str]:
    """Where config.json and the weights file say different things: ``["alpha: 3.0 in config.json, 2.0 in model.safetensors"]``.

    A file without metadata, as other tools write it, says nothing.
    """
    said, found = metadata_of(config.spec, config.inputs), metadata or {}
    return [
        f"{name}: {value} in config.json, {found[name]:.40} in model.safetensors"
        for name, value in said.items()
        if name not in _FORMAT and name in found and found[name] != value
    ]
