"""Packed network -> folder."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

import packify.artefact.example as examples
from packify.artefact.agreement import metadata_of
from packify.artefact.config import CONFIG_FILE, LIBRARIES, Config
from packify.artefact.execution import execution_of
from packify.artefact.folder import path_of, written_at_once
from packify.artefact.states import frozen_parameters, in_other_mode
from packify.artefact.tensors import structure_sha256, to_save
from packify.artefact.weights import MAX_SHARD_SIZE, checked_size, file_sha256, write_weights
from packify.core.errors import ArtefactError, PackError
from packify.core.version import __version__
from packify.evaluation.calibration import Calibration
from packify.nn.packed_network import PackedNetwork
from packify.sources import Source


def save(
    packed: PackedNetwork,
    folder: str | Path,
    *,
    source: Source | None = None,
    calibration: Calibration | None = None,
    force: bool = False,
    max_shard_size: int | str = MAX_SHARD_SIZE,
) -> Path:
    """Write `packed` as `config.json` and `model.safetensors`, all at once.

    What is written is every tensor, which parameters are frozen, and which modules are in train and which in eval mode.

    Args:
        packed: what `packify.pack` gave.
        folder: a new folder; its missing parents are made.
        source: where the reference came from. Without it, or for a user's own factory, loading needs ``load(folder, model=...)``.
        calibration: what was fitted on held-out data for these weights, see `Calibration`.
        calibration: what was fitted on held-out data for these weights, see `Calibration`.
        force: replace an artefact that is there. The old one is removed only when the new one is complete.
        max_shard_size: of a file of weights, in bytes or as ``"5GB"``; what is larger is split into several files with an index.

    Returns:
        The folder.

    Raises:
        ArtefactError: the folder exists, the disk is full, or the place may not be written.
        PackError: `packed` is no packed network.
        SpecError: `max_shard_size` is no size.
    """
    return _write(_checked(packed), packed, None, folder, source, force, checked_size(max_shard_size), calibration)


def save_member(packed: PackedNetwork, member: int, folder: str | Path, *, source: Source | None = None, force: bool = False) -> Path:
    """Write member number `member` as an artefact of its own; its `model.safetensors` is a plain state dict with the reference's names.

    Raises:
        ArtefactError: as for `save`.
        PackError: there is no such member, or `packed` is no packed network.
    """
    return _write(_checked(packed).extract(member), packed, member, folder, source, force, checked_size(MAX_SHARD_SIZE))


def _checked(packed: Any) -> PackedNetwork:
    if not isinstance(packed, PackedNetwork):
        raise PackError(
            "packed",
            found=f"a {type(packed).__name__}",
            why="an artefact holds a packed network, or a member of one",
            fix="packify.save(packed, folder), or packify.save_member(packed, 0, folder)",
        )
    if packed.fused:
        raise PackError(
            "packed",
            found="a fused network",
            why="loading makes the network from its reference, which has the batch norms that were folded",
            fix="save the network that it was made from, and packify.load(folder).eval().fuse()",
        )
    return packed


def _write(
    network: nn.Module,
    packed: PackedNetwork,
    member: int | None,
    folder: str | Path,
    source: Source | None,
    force: bool,
    shard_size: int,
    calibration: Calibration | None = None,
) -> Path:
    folder = path_of(folder)
    example = examples.encode(packed.example_inputs)
    with written_at_once(folder, force) as fresh:
        try:
            weights = write_weights(to_save(network), fresh, metadata_of(packed.spec, packed.inputs), shard_size)
        except SafetensorError as error:
            raise _not_saved(folder, error) from error
        config = Config(
            kind="packed" if member is None else "member",
            member=member,
            source=source,
            spec=packed.spec,
            example=example,
            inputs=packed.inputs,
            average=plain_average(packed.average),
            outputs=dict(packed.output_choices),
            training=network.training,
            made_with=installed_versions(),
            structure_sha256=structure_sha256(network, packed.digest),
            weights_file=weights.name,
            weights_sha256=file_sha256(weights),
            packify=__version__,
            other_mode=tuple(in_other_mode(network)),
            frozen=tuple(frozen_parameters(network)),
            resized=dict(packed.resized),
            calibration=calibration or Calibration(),
            execution=execution_of(packed) if member is None else {},
        )
        text = fresh / CONFIG_FILE
        text.write_text(config.to_json(), encoding="utf-8")
        for file in fresh.iterdir():
            file.chmod(text.stat().st_mode)  # safetensors makes files that only their owner may read
    return folder


def _not_saved(folder: Path, error: SafetensorError) -> ArtefactError:
    full = "No space left" in str(error) or "os error 28" in str(error)
    return ArtefactError(
        str(folder),
        found=str(error),
        why="the disk is full" if full else "the weights could not be written",
        fix="free some space, or choose another folder with --out",
    )


def installed_versions() -> dict[str, str]:
    """The versions of the libraries that decide what a reference is, by name."""
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found


def plain_average(average: Any) -> Any:
    """How outputs are averaged, as JSON holds it."""
    if isinstance(average, dict):
        return {str(key): plain_average(value) for key, value in average.items()}
    if isinstance(average, (tuple, list)):
        return [plain_average(value) for value in average]
    return average
