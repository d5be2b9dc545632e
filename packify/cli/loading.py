"""Loading an artefact for a command that got DIR, and perhaps --model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from packify.nn.packed_network import PackedNetwork


def load_packed(folder: Path, model: str | None, arg: list[str] | None) -> PackedNetwork:
    """The packed network in `folder`.

    Args:
        folder: the artefact.
        model: the reference's name, when it is a factory of the user's own.
        arg: arguments for that factory; those it was saved with are the default.

    Raises:
        ArtefactError: the artefact is damaged, does not fit, or holds a single member.
        SourceError: `model` cannot be built.
    """
    from packify import artefact
    from packify.core.errors import ArtefactError
    from packify.nn.packed_network import PackedNetwork

    folder = artefact.located(folder)
    network = load_network(folder, model, arg)
    if not isinstance(network, PackedNetwork):
        raise ArtefactError(
            str(folder),
            found=f"member {artefact.read_config(folder).member} alone",
            why="the laws are about members side by side, and a member has no members",
            fix="pass the artefact of the packed network",
        )
    return network


def load_network(folder: Path, model: str | None, arg: list[str] | None) -> nn.Module:
    """The packed network, or the single member, in `folder`; arguments and errors as for `load_packed`."""
    from packify import artefact

    folder = artefact.located(folder)
    return artefact.load(folder, reference_for(folder, model, arg))


def reference_for(folder: Path, model: str | None, arg: list[str] | None) -> nn.Module | None:
    """The reference that --model names, without data, built with the arguments that the artefact was saved with; None without --model.

    Raises:
        ArtefactError: there is no artefact in the folder.
        SourceError: `model` cannot be built.
    """
    from packify import artefact, sources

    source = artefact.read_config(folder).source
    if model is None:
        return None
    kind, _ = sources.parse_name(model)
    saved = dict(source.args) if source is not None and source.kind == kind else {}
    return sources.resolve(model, args=saved | dict(map(sources.parse_argument, arg or ())), device="meta").model
