"""Every architecture of timm and torchvision by name, its family, and inputs that it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from packify.sources.registries import registry_of
from packify.sources.resolving import resolve

LIBRARIES = ("timm", "torchvision")
BATCH = 2


@dataclass(frozen=True)
class Architecture:
    """One name of one library. `part` is the submodule that is packed, for models that are more than a network."""

    library: str
    name: str
    family: str
    part: str = ""

    @property
    def label(self) -> str:
        return f"{self.library}:{self.name}"


@dataclass(frozen=True)
class Built:
    """A reference and what to feed it."""

    model: nn.Module
    example_inputs: Any


def architectures() -> list[Architecture]:
    """Every name, sorted by library, family and name."""
    found = [Architecture(library, name, *_family(library)(name)) for library in LIBRARIES for name in registry_of(library).names()]  # type: ignore[arg-type]
    return sorted(found, key=lambda one: (one.library, one.family, one.name))


def build(one: Architecture, device: str = "meta") -> Built:
    """The reference on `device`; on meta no weight is allocated where the library allows it."""
    if one.family == "optical_flow.raft":
        frames = torch.empty(BATCH, 3, 128, 128, device=device)
        return Built(resolve(one.label, device=device).model, (frames, torch.empty_like(frames)))
    reference = resolve(one.label, device=device)
    if not one.part:
        return Built(reference.model, reference.example(BATCH, device))
    return Built(reference.model.get_submodule(one.part), torch.empty(BATCH, 3, 320, 320, device=device))


def _family(library: str) -> Callable[[str], tuple[str, str]]:
    """Name to the library's module file, and the part that is packed."""
    if library == "timm":
        from timm.models._registry import _model_to_module

        return lambda name: (_model_to_module[name], "")
    from torchvision import models

    def family(name: str) -> tuple[str, str]:
        module = models.get_model_builder(name).__module__.removeprefix("torchvision.models.")
        # A detector takes a list of images and loops over boxes; its trunk is the network.
        return module, "backbone" if module.startswith("detection.") else ""

    return family
