"""Folder -> packed network. Nothing is unpickled, and no code that the artefact names is run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

import packify.artefact.example as examples
from packify.artefact.config import WEIGHTS_FILE, Config, read_config
from packify.artefact.folder import path_of
from packify.artefact.saving import file_sha256
from packify.artefact.tensors import held_tensors, put, structure_sha256
from packify.capture.meta import meta_copy
from packify.capture.unwrapping import unwrap
from packify.core.errors import ArtefactError, PackifyError
from packify.ensembles.shortcuts import pack
from packify.sources import rebuild


@torch.inference_mode(False)
def load(folder: str | Path, model: nn.Module | None = None, *, leaves: tuple[type[nn.Module], ...] = (), rules: Any = None) -> nn.Module:
    """The packed network, or the member, that an artefact holds, on the CPU.

    The reference is rebuilt without data from timm's or torchvision's registry, slimmed and packed again, compared with what was
    saved, and then given the saved tensors.

    Args:
        folder: what `packify.save` wrote.
        model: the reference, for an artefact made from a user's own factory or module; only its structure is used.
        leaves: as they were passed to `packify.pack`.
        rules: as they were passed to `packify.pack`.

    Raises:
        ArtefactError: a file is missing, damaged, of a newer format, or does not fit the network that the code builds today.
        TraceError: `model` is no module.
    """
    folder = path_of(folder)
    config = read_config(folder)
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise ArtefactError(str(weights), found="no such file", why="an artefact needs its weights", fix="get a fresh copy of the artefact")
    try:
        if file_sha256(weights) != config.weights_sha256:
            raise ArtefactError(
                str(weights),
                found="another SHA-256 than config.json says",
                why="the file was truncated or changed after it was saved",
                fix="get a fresh copy of the artefact",
            )
        with safe_open(weights, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - a safetensors file is no mapping
    except (OSError, SafetensorError) as error:
        raise ArtefactError(str(weights), found=str(error), why="it cannot be read", fix="get a fresh copy of the artefact") from error
    if config.kind == "packed" and not _room_for_members(tensors, config.spec.num_estimators):
        raise ArtefactError(
            str(folder),
            found=f"M = {config.spec.num_estimators} and tensors with fewer rows",
            why="every packed tensor holds M members along its first axis",
            fix="get a fresh copy of the artefact",
        )
    network = _rebuilt(folder, config, model, leaves, rules)
    _check_fit(folder, network, tensors)
    put(network, tensors)
    return network.train(config.training)


def _rebuilt(folder: Path, config: Config, model: nn.Module | None, leaves: tuple[type[nn.Module], ...], rules: Any) -> nn.Module:
    reference = _reference(folder, config, model)
    example = examples.decode(config.example)
    dtype = examples.floating_dtype(example)
    if dtype is not None:
        reference = reference.to(dtype)
    try:
        packed = pack(
            reference,
            example,
            **config.spec.to_dict(),
            inputs=config.inputs,
            average=config.average,
            outputs=config.outputs,
            leaves=leaves,
            rules=rules,
        )
        network = packed if config.member is None else packed.extract(config.member)
        digest = structure_sha256(network, packed.digest)
    except PackifyError as error:
        raise _differs(folder, config, f"the rebuilt network cannot be packed: {error.where}: {error.found}", error) from error
    except Exception as error:
        raise _differs(folder, config, f"{type(error).__name__}: {error}"[:300], error) from error
    if digest != config.structure_sha256:
        raise _differs(folder, config, f"another structure ({digest[:12]}, saved was {config.structure_sha256[:12]})")
    return network


def _reference(folder: Path, config: Config, model: nn.Module | None) -> nn.Module:
    if model is not None:
        return meta_copy(unwrap(model))
    if config.source is None:
        raise ArtefactError(
            str(folder),
            found="no name of the reference",
            why="it was saved from a network that packify did not build, and loading runs no code of the artefact",
            fix="build that network and pass it: packify.load(dir, model=network), or --model path/to/file.py:factory",
        )
    if not config.source.rebuildable:
        raise ArtefactError(
            str(folder),
            found=f"the reference is the user's own {config.source.name}",
            why="loading never runs code that an artefact names",
            fix=f"packify.load({str(folder)!r}, model=packify.load_reference({config.source.name!r})), or --model {config.source.name}",
        )
    try:
        return rebuild(config.source)
    except PackifyError as error:
        raise ArtefactError(
            f"{folder}: {config.source.kind}:{config.source.name}", found=error.found or error.where, why=error.why, fix=_install(config)
        ) from error


def _room_for_members(tensors: Mapping[str, torch.Tensor], members: int) -> bool:
    rows = [tensor.shape[0] for tensor in tensors.values() if tensor.ndim]
    return not rows or max(rows) >= members


def _check_fit(folder: Path, network: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    expected = {held.names[0]: held.tensor for held in held_tensors(network)}
    missing, unknown = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or unknown:
        raise _misfit(folder, f"missing: {_some(missing)}; unknown: {_some(unknown)}", "the file's names are not the network's")
    for name, tensor in expected.items():
        saved = tensors[name]
        if saved.shape != tensor.shape or saved.is_floating_point() != tensor.is_floating_point():
            raise _misfit(
                folder,
                f"{name}: on disk {tuple(saved.shape)} {saved.dtype}, in the network {tuple(tensor.shape)} {tensor.dtype}",
                "the shapes or the kinds of number differ",
            )


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") if names else "none"


def _misfit(folder: Path, found: str, why: str) -> ArtefactError:
    return ArtefactError(str(folder / WEIGHTS_FILE), found=found, why=why, fix="get a fresh copy of the artefact")


def _differs(folder: Path, config: Config, found: str, error: Exception | None = None) -> ArtefactError:
    return ArtefactError(
        str(folder),
        found=found,
        why="the network that today's code builds is not the one that was saved: the model, a library or packify has changed",
        fix=_install(config) if config.source is not None and config.source.rebuildable else "pass the network that was packed as model=",
    )


def _install(config: Config) -> str:
    versions = [f"packify-torch=={config.packify}", *(f"{name}=={version}" for name, version in sorted(config.made_with.items()))]
    return "install what it was made with: pip install " + " ".join(version.partition("+")[0] for version in versions)
