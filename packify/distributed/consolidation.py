"""A checkpoint of many processes as an ordinary artefact, made by one process that needs no mesh."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict_loader import load

from packify.artefact.config import Config, read_config
from packify.artefact.folder import check_target
from packify.artefact.loading import rebuilt
from packify.artefact.saving import save
from packify.artefact.states import freeze_only, set_modes
from packify.artefact.tensors import held_tensors, put
from packify.core.errors import ArtefactError
from packify.distributed.checkpoints import checked, tensors_in
from packify.nn.packed_network import PackedNetwork


def consolidate(checkpoint: str | Path, folder: str | Path, *, model: nn.Module | None = None, force: bool = False) -> Path:
    """Write what `save_checkpoint` wrote as an artefact, bit for bit; optimiser and `extra` are left out.

    Args:
        checkpoint: of any number of processes.
        folder: a new folder, as for `packify.save`.
        model: the reference, for a user's own network; only its structure is used.
        force: replace an artefact that is there.

    Raises:
        ArtefactError: there is no whole checkpoint, it is of another network, or the folder cannot be written.
    """
    path = checked(checkpoint)
    config = read_config(path)
    target = check_target(folder, force)
    network, _ = rebuilt(path, config, model, (), None)
    if not isinstance(network, PackedNetwork):
        raise ArtefactError(str(path), found="one member", why="a checkpoint holds an ensemble", fix="pass what save_checkpoint wrote")
    tensors = _read(path, network, config)
    put(network, tensors)
    set_modes(network, config.training, config.other_mode)
    freeze_only(network, config.frozen or ())
    return save(network, target, source=config.source, force=force)


def _read(path: Path, network: PackedNetwork, config: Config) -> dict[str, torch.Tensor]:
    known = tensors_in(path)
    persistent = network.state_dict().keys()
    state: dict[str, dict[str, torch.Tensor]] = {"model": {}, "buffers": {}}
    for held in held_tensors(network):
        name = held.names[0]
        part = "model" if name in persistent else "buffers"
        found = known.get(f"{part}.{name}")
        size = tuple(getattr(found, "size", ()))
        if found is None or size != tuple(held.tensor.shape):
            raise ArtefactError(
                f"{path}: {name}",
                found="no such tensor" if found is None else f"shape {size}, in the network {tuple(held.tensor.shape)}",
                why="the checkpoint is of another network",
                fix="pass the network that was distributed as model=, or --model path/to/file.py:factory",
            )
        state[part][name] = torch.empty(size, dtype=found.properties.dtype)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is one process is meant
            load(state, checkpoint_id=path, no_dist=True)
    except Exception as error:
        raise ArtefactError(
            str(path),
            found=f"{type(error).__name__}: {' '.join(str(error).split())}"[:300],
            why="it cannot be read",
            fix="take an earlier one",
        ) from error
    return state["model"] | state["buffers"]
