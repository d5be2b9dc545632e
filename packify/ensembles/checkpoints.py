"""Checkpoints of trained networks: `.safetensors` files and torch's own, read without running what they hold."""

from __future__ import annotations

import copy
import pickle
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from packify.capture.unwrapping import unwrap
from packify.core.errors import ArtefactError, SpecError

# Under which keys training scripts keep a state_dict, the first that is there is taken.
_WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "weights",
    "params",
    "module",
    "model_ema",
    "ema",
    "state_dict_ema",
)
# What data parallelism, torch.compile and training frameworks put before every key.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
# Counters of averaged models, which stand beside the keys with a prefix.
_COUNTERS = ("n_averaged", "num_updates", "decay")
_IN_FOLDER = "model.safetensors"
_MOST_NESTED = 8

StatePath = str | PathLike[str]


def load_members(model: nn.Module | Callable[[], nn.Module], paths: Iterable[StatePath]) -> list[nn.Module]:
    """One network per checkpoint, for `packify.pack_members`.

    Args:
        model: a network of the checkpoints' architecture, which is copied and not changed; or a function that builds one.
        paths: `.safetensors`, `.pth`, `.pt` or `.bin` files, or folders with a `model.safetensors`.

    Raises:
        ArtefactError: a file cannot be read, or holds the weights of another architecture: the error names the key and both shapes.
        SpecError: there are no paths.
    """
    files = [paths] if isinstance(paths, (str, PathLike)) else list(paths)
    if not files:
        raise SpecError(
            "paths",
            found="none",
            why="an ensemble has at least one member",
            fix='pass packify.load_members(model, ["a.safetensors", "b.pth"])',
        )
    return [load_checkpoint(_fresh(model), path) for path in files]


def load_checkpoint(model: nn.Module, path: StatePath) -> nn.Module:
    """`model` with the weights of a checkpoint.

    Raises:
        ArtefactError: see `load_members`. Then `model` is as it was.
    """
    state = matching(read_checkpoint(path), model)
    _check_fit(model, state, fspath(path))
    model.load_state_dict(state, strict=False)
    return model


def read_checkpoint(path: StatePath) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, out of whatever its training script put around them; nothing is unpickled but tensors.

    Raises:
        ArtefactError: there is no such file, it is damaged, holds more than tensors and plain data, or no tensors.
    """
    file = Path(path)
    if file.is_dir():
        file = file / _IN_FOLDER
    if not file.is_file():
        raise ArtefactError(str(file), found="no such file", why="a member's weights are read from it", fix="check the path")
    state = _state_in(_read(file))
    if state is None:
        raise ArtefactError(
            str(file),
            found="no tensors by name",
            why="a checkpoint holds a state_dict, perhaps as " + ", ".join(map(repr, _WRAPPERS[:4])),
            fix="save one with torch.save(model.state_dict(), path)",
        )
    return state


def matching(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """`state` under the names that `model` has, where wrappers have put prefixes before every key."""
    names = {*model.state_dict(keep_vars=True)}
    best, found = -1, dict(state)
    for candidate in _without_prefixes(dict(state)):
        common = len(names & candidate.keys())
        if common > best:
            best, found = common, candidate
    return found


def _fresh(model: nn.Module | Callable[[], nn.Module]) -> nn.Module:
    network = copy.deepcopy(unwrap(model)) if isinstance(model, nn.Module) else unwrap(model())
    if any(tensor.is_meta for tensor in (*network.parameters(), *network.buffers())):
        raise SpecError(
            "model",
            found=f"a {type(network).__name__} on the meta device",
            why="what a checkpoint does not hold stays as the network was built",
            fix="build the network with data",
        )
    return network


def _read(file: Path) -> Any:
    if not file.stat().st_size:
        raise ArtefactError(str(file), found="an empty file", why="it was cut off, or is no checkpoint", fix="get a fresh copy of the file")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a damaged file makes torch wonder about is said by the error
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        text = str(error)
        refused = "Unsupported" in text or "WeightsUnpickler error" in text or "GLOBAL" in text
        raise ArtefactError(
            str(file),
            found=_refused(text),
            why="it holds Python objects, and unpickling those would run code of the file's"
            if refused
            else "it is no checkpoint of torch's",
            fix="save the tensors alone, where the file comes from: torch.save(model.state_dict(), path)",
        ) from error
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ArtefactError(
            str(file),
            found=f"{type(error).__name__}: {_first_line(str(error))}",
            why="it was cut off, changed, or is no checkpoint",
            fix="get a fresh copy of the file",
        ) from error


def _refused(text: str) -> str:
    """What torch would not unpickle, where its message says so."""
    named = re.search(r"GLOBAL ([\w.]+)", text)
    return f"an object of {named.group(1)}" if named else _first_line(text)


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[0][:300]


def _state_in(found: Any, nesting: int = 0) -> dict[str, Tensor] | None:
    """The state_dict in nested dicts: this one, if its values are tensors, or the one under a known key."""
    if not isinstance(found, Mapping) or nesting > _MOST_NESTED:
        return None
    for key in _WRAPPERS:
        if isinstance(found.get(key), Mapping):
            inner = _state_in(found[key], nesting + 1)
            if inner is not None:
                return inner
    tensors = {str(key): value for key, value in found.items() if isinstance(value, Tensor)}
    return tensors or None


def _without_prefixes(state: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """`state`, and what is left of it when prefixes that all keys share are taken off, one after the other."""
    candidates = [state]
    for _ in range(_MOST_NESTED):
        last = candidates[-1]
        named = {key: value for key, value in last.items() if key not in _COUNTERS}
        prefix = next((prefix for prefix in _PREFIXES if named and all(key.startswith(prefix) for key in named)), None)
        if prefix is None:
            break
        candidates.append({key.removeprefix(prefix): value for key, value in named.items()})
    return candidates


def _check_fit(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Raise ArtefactError at the first key that the network and the checkpoint disagree about."""
    expected = model.state_dict(keep_vars=True)
    given = {id(tensor) for name, tensor in expected.items() if name in state}
    missing = [name for name, tensor in expected.items() if isinstance(tensor, Tensor) and name not in state and id(tensor) not in given]
    unknown = [name for name in state if name not in expected]
    architecture = type(model).__name__
    for name, tensor in expected.items():
        if name in state and isinstance(tensor, Tensor) and state[name].shape != tensor.shape:
            raise _misfit(
                f"{where}: {name}", f"shape {tuple(state[name].shape)} in the checkpoint, {tuple(tensor.shape)} in {architecture}"
            )
        if name in state and isinstance(tensor, Tensor) and _kind(state[name]) != _kind(tensor):
            raise _misfit(f"{where}: {name}", f"{state[name].dtype} in the checkpoint, {tensor.dtype} in {architecture}")
    if missing or unknown:
        tensors = {**{name: expected[name] for name in missing}, **{name: state[name] for name in unknown}}
        told = [
            f"{title} {', '.join(f'{name} {tuple(tensors[name].shape)}' for name in names[:3])}"
            + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            for title, names in (("missing", missing), ("unknown", unknown))
            if names
        ]
        raise _misfit(f"{where}: {(missing or unknown)[0]}", "; ".join(told))
    spoilt = next((name for name, tensor in state.items() if tensor.is_floating_point() and bool(tensor.isnan().any())), None)
    if spoilt is not None:
        raise ArtefactError(
            f"{where}: {spoilt}",
            found=f"NaN in a tensor of shape {tuple(state[spoilt].shape)}",
            why="its training diverged, and the average of an ensemble with NaN in it is NaN",
            fix="leave this checkpoint out, or take an earlier one",
        )


def _kind(tensor: Tensor) -> str:
    return "complex" if tensor.is_complex() else "floating" if tensor.is_floating_point() else "whole"


def _misfit(where: str, found: str) -> ArtefactError:
    return ArtefactError(
        where,
        found=found,
        why="the checkpoint is of another architecture, or of one built with other arguments",
        fix="build the network as the checkpoint's was: num_classes, in_chans and the like",
    )


def are_paths(networks: Sequence[Any]) -> bool:
    """Whether members are given as checkpoints."""
    return bool(networks) and all(isinstance(one, (str, PathLike)) for one in networks)
