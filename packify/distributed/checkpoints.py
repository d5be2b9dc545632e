"""Checkpoints of a distributed ensemble by torch.distributed.checkpoint, each tensor as Shard(0) of the whole ensemble's.

Tensors are member-major on their leading axis, so a process's members are its rows. What 4 processes wrote is read by 1, 2 or 8, with or
without data parallelism.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save, save
from torch.distributed.tensor import DTensor, Shard
from torch.optim import Optimizer

from packify.artefact.config import CONFIG_FILE, Config
from packify.artefact.example import encode
from packify.artefact.saving import installed_versions, plain_average
from packify.artefact.states import frozen_parameters, in_other_mode
from packify.core.errors import ArtefactError
from packify.core.version import __version__
from packify.distributed.distributing import DistributedEnsemble
from packify.nn.tree import is_constant
from packify.sources import Source

_EXTRA = "extra.json"


class Saving:
    """A checkpoint that is being written; it has its name when `wait` has returned."""

    def __init__(self, future: Any, part: Path, target: Path) -> None:
        self._future, self._part, self._target = future, part, target

    def wait(self) -> Path:
        """Wait until it is written, and give it its name. A call of all processes.

        Raises:
            ArtefactError: it could not be written.
        """
        if self._future is not None:
            try:
                self._future.result()
            except Exception as error:
                raise ArtefactError(
                    str(self._target),
                    found=f"{type(error).__name__}: {error}"[:300],
                    why="the checkpoint could not be written",
                    fix="free some space",
                ) from error
            self._future = None
        if dist.get_rank() == 0 and self._part.exists():
            old = _replaced(self._target)
            if self._target.exists():
                shutil.rmtree(old, ignore_errors=True)
                self._target.rename(old)
            self._part.rename(self._target)
            shutil.rmtree(old, ignore_errors=True)
        dist.barrier()
        return self._target


def save_checkpoint(
    ensemble: DistributedEnsemble,
    folder: str | Path,
    optimizer: Optimizer | None = None,
    extra: Mapping[str, Any] | None = None,
    *,
    source: Source | None = None,
    asynchronous: bool = False,
) -> Saving:
    """Write weights, the optimiser's state and `extra` of all processes into a folder that gets its name when it is whole.

    Args:
        ensemble: on every process.
        folder: a checkpoint that is there is replaced when the new one is whole.
        optimizer: of ``ensemble.packed.parameters()``.
        extra: numbers and texts, the same on every process: the epoch, the step.
        source: where the reference came from, as for `packify.save`, so that `packify consolidate` needs no ``--model``.
        asynchronous: go on training while the files are written; call ``.wait()`` on what is returned, on every process.

    Raises:
        ArtefactError: it could not be written.
    """
    target = Path(folder)
    part = target.with_name(f".{target.name}.part")
    if dist.get_rank() == 0:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        (part / CONFIG_FILE).write_text(_described(ensemble, source).to_json(), encoding="utf-8")
        (part / _EXTRA).write_text(json.dumps({"extra": dict(extra or {}), "groups": _settings(optimizer)}), encoding="utf-8")
    dist.barrier()
    state = {**_tensors(ensemble), "optimizer": _moments(ensemble, optimizer)}
    if asynchronous:
        return Saving(async_save(state, checkpoint_id=part), part, target)
    save(state, checkpoint_id=part)
    saving = Saving(None, part, target)
    saving.wait()
    return saving


def load_checkpoint(ensemble: DistributedEnsemble, folder: str | Path, optimizer: Optimizer | None = None) -> dict[str, Any]:
    """Read a checkpoint that any number of processes wrote, in place, and give back its `extra`.

    Raises:
        ArtefactError: there is no whole checkpoint, or it is of another ensemble.
    """
    path = checked(folder)
    extra, groups = _said(path)
    empty = {} if optimizer is None else _empty_moments(ensemble, tensors_in(path))
    state = _tensors(ensemble)
    moments = {f"{name}.{key}": _whole(ensemble, name, value) for name, own in empty.items() for key, value in own.items()}
    try:
        load({**state, "optimizer": moments}, checkpoint_id=path)  # into the very memory of the weights
    except Exception as error:
        raise _differs(path, error) from error
    if optimizer is not None:
        parameters = dict(ensemble.packed.named_parameters())
        for name, own in empty.items():
            optimizer.state[parameters[name]] = own
        if len(groups) != len(optimizer.param_groups):
            raise _differs(path, ValueError(f"{len(groups)} groups of parameters, the optimiser has {len(optimizer.param_groups)}"))
        for group, settings in zip(optimizer.param_groups, groups, strict=True):
            group |= {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    return extra


def checked(folder: str | Path) -> Path:
    """The folder that holds a whole checkpoint: the one of that name, or, of a process killed while it replaced that one, the one before.

    Raises:
        ArtefactError: there is none.
    """
    path = Path(folder)
    if not path.exists() and (_replaced(path) / ".metadata").is_file():
        return _replaced(path)
    if not (path / ".metadata").is_file():
        why = "there is no such folder" if not path.is_dir() else "a checkpoint is whole when its .metadata is there"
        raise ArtefactError(str(folder), found="no checkpoint", why=why, fix="pass a folder that save_checkpoint wrote")
    return path


def tensors_in(path: Path) -> dict[str, Any]:
    """Shape and dtype of every tensor that a checkpoint holds, by name.

    Raises:
        ArtefactError: its table of contents cannot be read.
    """
    try:
        return dict(FileSystemReader(path).read_metadata().state_dict_metadata)
    except Exception as error:
        raise _damaged(path / ".metadata", error) from error


def _said(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the user has saved with a checkpoint, and the settings of the optimiser's groups."""
    try:
        said = json.loads((path / _EXTRA).read_text(encoding="utf-8"))
        return dict(said["extra"]), [dict(group) for group in said["groups"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _damaged(path / _EXTRA, error) from error


def _replaced(target: Path) -> Path:
    """Where a checkpoint lies while the one that replaces it gets its name."""
    return target.with_name(f".{target.name}.old")


def _damaged(path: Path, error: Exception) -> ArtefactError:
    return _refused(path, error, why="the checkpoint is damaged", fix="take an earlier one")


def _tensors(ensemble: DistributedEnsemble) -> dict[str, Any]:
    """Every tensor of the network as a shard of the whole's; buffers that no state_dict holds too, which a rebuilt network has lost."""
    own = ensemble.packed.state_dict()
    others = {name: value for name, value in ensemble.packed.named_buffers() if name not in own}
    return {
        "model": {name: _whole(ensemble, name, value) for name, value in own.items()},
        "buffers": {name: _whole(ensemble, name, value) for name, value in others.items()},
    }


def _moments(ensemble: DistributedEnsemble, optimizer: Optimizer | None) -> dict[str, Any]:
    """What an optimiser keeps of each parameter: ``{"fc.weight.exp_avg": ...}``."""
    states: Any = {} if optimizer is None else optimizer.state
    return {
        f"{name}.{key}": _whole(ensemble, name, value) if isinstance(value, Tensor) else torch.as_tensor(value)
        for name, parameter in ensemble.packed.named_parameters()
        for key, value in states.get(parameter, {}).items()
        if value is not None
    }


def _empty_moments(ensemble: DistributedEnsemble, known: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
    """Zeros in the shape of what a checkpoint holds of an optimiser, for this process's parameters."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, parameter in ensemble.packed.named_parameters():
        prefix = f"optimizer.{name}."
        keys = [key.removeprefix(prefix) for key in known if key.startswith(prefix) and "." not in key.removeprefix(prefix)]
        for key in keys:
            saved = known[prefix + key]
            like = parameter.detach() if tuple(saved.size[1:]) == tuple(parameter.shape[1:]) and len(saved.size) else None
            dtype = saved.properties.dtype
            zeros = torch.zeros(saved.size, dtype=dtype) if like is None else torch.zeros_like(like, dtype=dtype)
            found.setdefault(name, {})[key] = zeros
    return found


def _settings(optimizer: Optimizer | None) -> list[dict[str, Any]]:
    """The settings of each group of parameters: learning rate, decay and the like."""
    groups = [] if optimizer is None else optimizer.param_groups
    return [{key: value for key, value in group.items() if key != "params" and _is_plain(value)} for group in groups]


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str)) or (isinstance(value, (tuple, list)) and all(map(_is_plain, value)))


def _described(ensemble: DistributedEnsemble, source: Source | None) -> Config:
    """The config of the whole ensemble; its digests are those of an artefact, which a checkpoint is not yet."""
    packed, nothing = ensemble.packed, "0" * 64
    return Config(
        kind="packed",
        member=None,
        source=source,
        spec=ensemble.spec,
        example=encode(packed.example_inputs),
        inputs=packed.inputs,
        average=plain_average(packed.average),
        outputs=dict(packed.output_choices),
        training=packed.training,
        made_with=installed_versions(),
        structure_sha256=nothing,
        weights_sha256=nothing,
        packify=__version__,
        other_mode=tuple(in_other_mode(packed)),
        frozen=tuple(frozen_parameters(packed)),
        resized=dict(packed.resized),
    )


def _whole(ensemble: DistributedEnsemble, name: str, value: Any) -> Any:
    """This process's rows as a shard of the whole ensemble's tensor; what has no members stays as it is."""
    if not isinstance(value, Tensor) or not value.dim() or is_constant(name):
        return value
    value = value.detach()
    groups = ensemble.placement.groups
    shape = (value.shape[0] * groups, *value.shape[1:])
    stride = torch.empty(shape, device="meta").stride()
    if isinstance(value, DTensor):  # rows of rows: members first, then what fully_shard holds of them
        return DTensor.from_local(
            value.to_local(), ensemble.mesh["member", "data"], [Shard(0), Shard(0)], shape=torch.Size(shape), stride=stride
        )
    return DTensor.from_local(value, ensemble.mesh["member"], [Shard(0)], shape=torch.Size(shape), stride=stride)


def _differs(path: Path, error: Exception) -> ArtefactError:
    return _refused(
        path,
        error,
        why="the checkpoint is of another ensemble, or of another optimiser",
        fix="build the ensemble as it was when the checkpoint was saved: the same reference, alpha, M and gamma",
    )


def _refused(path: Path, error: Exception, why: str, fix: str) -> ArtefactError:
    return ArtefactError(str(path), found=f"{type(error).__name__}: {' '.join(str(error).split())}"[:300], why=why, fix=fix)
