"""Whose work a reference is: its library, and the published weights that members come from, with their licences."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata

from packify.sources.source import REGISTRIES, Source


@dataclass(frozen=True)
class Credit:
    """Whose work a reference is.

    Attributes:
        library: ``"timm"`` or ``"torchvision"``.
        library_license: as the installed library states it; empty where it does not.
        weights: where the published weights that members come from can be found; empty for members that started fresh.
        weights_license: of those weights; empty where nobody says.
        weights_hub_id: of those weights on the hub, ``"timm/resnet50.a1_in1k"``; empty where they are not there.
    """

    library: str
    library_license: str
    weights: str = ""
    weights_license: str = ""
    weights_hub_id: str = ""


def credit_of(source: Source | None) -> Credit | None:
    """The credit for a registry's network; None for a user's own, of which packify knows nothing."""
    if source is None or source.kind not in REGISTRIES:
        return None
    credit = Credit(source.kind, _license(source.kind))
    if source.mean is None:
        return credit  # no member has seen published weights
    if source.kind == "torchvision":
        return Credit(credit.library, credit.library_license, f"torchvision's published weights of {source.name}")
    import timm

    config = timm.get_pretrained_cfg(source.name)
    if config is None:
        return credit
    return Credit(
        credit.library,
        credit.library_license,
        str(config.origin_url or config.url or f"timm's published weights of {source.name}"),
        config.license or "",
        config.hf_hub_id or "",
    )


def _license(library: str) -> str:
    try:
        said = metadata.metadata(library)
    except metadata.PackageNotFoundError:
        return ""
    stated = [said[key] for key in ("License-Expression", "License") if key in said]
    return next((text.strip().partition("\n")[0][:60] for text in stated if text), "")
