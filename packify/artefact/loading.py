"""Folder -> packed network. Nothing is unpickled, and no code that the artefact names is run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

import packify.artefact.example as examples
from packify.artefact.agreement import disagreements
from packify.artefact.config import Config, read_config
from packify.artefact.execution import restore_execution
from packify.artefact.folder import path_of
from packify.artefact.names import is_hub_name
from packify.artefact.saving import installed_versions
from packify.artefact.states import freeze_only, set_modes
from packify.artefact.tensors import held_tensors, put, structure_sha256
from packify.artefact.weights import read_weights
from packify.capture.meta import meta_copy
from packify.capture.unwrapping import unwrap
from packify.core.errors import ArtefactError, PackifyError
from packify.core.method_specs import MethodSpec
from packify.core.version import __version__
from packify.ensembles.recording import record
from packify.execution.formats import format_of, to_format
from packify.nn.packed_network import PackedNetwork
from packify.sources import rebuild


@torch.inference_mode(False)
def load(folder: str | Path, model: nn.Module | None = None, *, leaves: tuple[type[nn.Module], ...] = (), rules: Any = None) -> nn.Module:
    """The packed network, or the member, that an artefact holds, on the CPU.

    The reference is rebuilt without data from timm's or torchvision's registry, slimmed and packed again, compared with what was
    saved, and then given the saved tensors.

    Args:
        folder: what `packify.save` wrote, or ``"hf-hub:user/name"`` (perhaps with ``@revision``) for what `packify.push_to_hub` published.
        model: the reference, for an artefact made from a user's own factory or module; only its structure is used.
        leaves: as they were passed to `packify.pack`.
        rules: as they were passed to `packify.pack`.

    Raises:
        ArtefactError: a file is missing, damaged, of a newer format, or does not fit the network that the code builds today; or
            the hub cannot be reached.
        TraceError: `model` is no module.
    """
    folder = located(folder)
    config = read_config(folder)
    tensors, metadata = read_weights(folder, config)
    if config.kind == "packed" and not _room_for_members(tensors, config.spec.num_estimators):
        raise ArtefactError(
            str(folder),
            found=f"M = {config.spec.num_estimators} and tensors with fewer rows",
            why="every packed tensor holds M members along its first axis",
            fix=_FRESH,
        )
    differing = disagreements(config, metadata)
    try:
        network, structure = rebuilt(folder, config, model, leaves, rules)
    except ArtefactError as error:
        if differing:
            raise _disagree(folder, [*differing, error.found]) from error
        raise
    misfit = _misfit(network, tensors)
    if differing:
        raise _disagree(folder, [*differing, misfit])
    if structure != config.structure_sha256:
        raise _differs(folder, config, misfit or f"another structure ({structure[:12]}, saved was {config.structure_sha256[:12]})")
    if misfit:
        raise ArtefactError(str(folder / config.weights_file), found=misfit, why="the file's tensors are not the network's", fix=_FRESH)
    lies = format_of(network)
    put(network, tensors)
    if isinstance(network, PackedNetwork):
        to_format(network, lies)
        restore_execution(network, config.execution, str(folder))
    unknown = set_modes(network, config.training, config.other_mode)
    unknown = unknown or ("" if config.frozen is None else freeze_only(network, config.frozen))
    if unknown:
        raise ArtefactError(str(folder), found=f"a part called {unknown!r} in config.json", why="the network has none", fix=_FRESH)
    return network


def located(folder: str | Path) -> Path:
    """The folder of an artefact; one on a hub is fetched.

    Raises:
        ArtefactError: the hub cannot be reached, or holds no such artefact.
    """
    path = path_of(folder)
    if not is_hub_name(path):
        return path
    from packify.artefact.fetching import fetch

    return fetch(str(path))


def rebuilt(
    folder: Path, config: Config, model: nn.Module | None, leaves: tuple[type[nn.Module], ...], rules: Any
) -> tuple[nn.Module, str]:
    """The network without its weights, and the digest of its structure.

    Raises:
        ArtefactError: the reference cannot be built here, or is not the one that was saved.
    """
    reference = reference_of(folder, config, model)
    example = examples.decode(config.example)
    dtype = examples.floating_dtype(example)
    if dtype is not None:
        reference = reference.to(dtype)
    try:
        recording = record(reference, example, outputs=config.outputs, leaves=leaves, rules=rules)
        how: dict[str, Any] = {"inputs": config.inputs, "average": config.average}
        spec = config.spec
        packed = recording.method(spec, **how) if isinstance(spec, MethodSpec) else recording.pack(**spec.to_dict(), **how)
        for name, size in config.resized.items():
            packed.resize(name, size)
        network = packed if config.member is None else packed.extract(config.member)
        return network, structure_sha256(network, packed.digest)
    except PackifyError as error:
        raise _differs(folder, config, f"the rebuilt network cannot be packed: {error.where}: {error.found}", error) from error
    except Exception as error:
        raise _differs(folder, config, f"{type(error).__name__}: {error}"[:300], error) from error


def reference_of(folder: Path, config: Config, model: nn.Module | None) -> nn.Module:
    """The reference of an artefact without data: `model`, or what its registry builds.

    Raises:
        ArtefactError: it cannot be built here, or only by a user's own code.
    """
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


def _misfit(network: nn.Module, tensors: Mapping[str, torch.Tensor]) -> str:
    """How the file's tensors differ from the network's; empty when they do not."""
    expected = {held.names[0]: held.tensor for held in held_tensors(network)}
    missing, unknown = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or unknown:
        return f"tensors that are missing on disk: {_some(missing)}; unknown in the network: {_some(unknown)}"
    differing = [
        f"{name}: on disk {tuple(tensors[name].shape)} {tensors[name].dtype}, in the network {tuple(tensor.shape)} {tensor.dtype}"
        for name, tensor in expected.items()
        if tensors[name].shape != tensor.shape or tensors[name].is_floating_point() != tensor.is_floating_point()
    ]
    return differing[0] + (f" (and {len(differing) - 1} more tensors)" if len(differing) > 1 else "") if differing else ""


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") if names else "none"


_FRESH = "get a fresh copy of the artefact"


def _disagree(folder: Path, found: list[str]) -> ArtefactError:
    return ArtefactError(
        str(folder),
        found="; ".join(filter(None, found)),
        why="config and weights disagree: one of the two files was edited, or is of another artefact",
        fix=_FRESH + ", or put back in config.json what model.safetensors was saved with",
    )


def _differs(folder: Path, config: Config, found: str, error: Exception | None = None) -> ArtefactError:
    if config.source is None or not config.source.rebuildable:
        fix = "pass the network that was packed as model="
    elif config.made_with == installed_versions() and config.packify == __version__:
        fix = f"{_FRESH}: the libraries are those that it was made with, so config.json is not what was saved"
    else:
        fix = _install(config)
    return ArtefactError(
        str(folder),
        found=found,
        why="the network that today's code builds is not the one that was saved: the model, a library, packify or config.json has changed",
        fix=fix,
    )


def _install(config: Config) -> str:
    versions = [f"packify-torch=={config.packify}", *(f"{name}=={version}" for name, version in sorted(config.made_with.items()))]
    return "install what it was made with: pip install " + " ".join(version.partition("+")[0] for version in versions)
