"""The registries that there are, each imported when it is asked for."""

from __future__ import annotations

from packify.sources.registry import Registry
from packify.sources.source import REGISTRIES, Kind


def registry_of(kind: Kind) -> Registry:
    """The registry called `kind`; imports its library."""
    if kind == "timm":
        from packify.sources.timm_registry import TimmRegistry

        return TimmRegistry()
    from packify.sources.torchvision_registry import TorchvisionRegistry

    return TorchvisionRegistry()


def import_library(kind: Kind | None) -> None:
    """Import what building a network of this kind will need; a plain name (None) is looked up in timm first."""
    if kind is None or kind in REGISTRIES:
        registry_of(kind or REGISTRIES[0])
