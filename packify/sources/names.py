"""Reading a MODEL name: which kind of source it names, decided by its spelling alone, before anything is imported."""

from __future__ import annotations

import re

from packify.core.errors import SourceError
from packify.sources.source import REGISTRIES, REGISTRY_NAME, Kind

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
# What other tools take before a colon to fetch something. A module of such a name would be reached by accident.
_ADDRESS_PREFIXES = frozenset(
    ("hf-hub", "hf_hub", "hf", "hub", "local-dir", "local_dir", "http", "https", "ftp", "file", "s3", "gs", "github", "git", "ssh")
)


def parse_name(name: str) -> tuple[Kind | None, str]:
    """The kind of source that `name` spells, and the name without its registry prefix.

    ``resnet50`` -> (None, "resnet50"), to be looked up in timm and then in torchvision; ``timm:resnet50`` -> ("timm", "resnet50");
    ``nets/own.py:build`` -> ("file", "nets/own.py:build"); ``own.nets:build`` -> ("module", "own.nets:build").

    Raises:
        SourceError: the name is empty, a hub address, a URL, or a path without a factory.
    """
    head, colon, tail = name.rpartition(":")
    prefix = name.partition(":")[0]
    if "://" in name or (colon and prefix.lower() in _ADDRESS_PREFIXES):
        raise _refused(name, "it looks like an address, and packify never fetches a network")
    if colon and prefix in REGISTRIES:
        inner = name.partition(":")[2]
        if not REGISTRY_NAME.fullmatch(inner):
            raise _refused(
                name, f"a name of {prefix} holds only letters, digits, '_', '-' and '.'", fix=f"pass for example {prefix}:resnet50"
            )
        return ("timm" if prefix == "timm" else "torchvision"), inner
    if colon and head.endswith(".py"):
        if not _DOTTED.fullmatch(tail):
            raise _refused(name, f"{tail!r} is no name of a factory", fix=f"pass for example {head}:factory")
        return "file", name
    if name.endswith(".py"):
        raise _refused(name, "it names a file, but not which of its functions or classes builds the network", fix=f"pass {name}:factory")
    if colon and _DOTTED.fullmatch(head) and _DOTTED.fullmatch(tail):
        return "module", name
    if not REGISTRY_NAME.fullmatch(name):
        raise _refused(
            name, "it is neither a registry's name nor a factory; a name that looks like a path or an address is never fetched or imported"
        )
    return None, name


def _refused(name: str, why: str, fix: str = "") -> SourceError:
    accepted = (
        "pass a timm or torchvision name (resnet50, timm:resnet50, torchvision:resnet50), path/to/file.py:factory or package.module:factory"
    )
    return SourceError("MODEL", found=repr(name), why=why, fix=fix or accepted)


def label(kind: Kind | None, name: str) -> str:
    """A short name, safe as part of a file's name: ``resnet50``, or the factory's own name."""
    plain = name.rpartition(":")[2] if kind in ("file", "module") else name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip(".-") or "model"
