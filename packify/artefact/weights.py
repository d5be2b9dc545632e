"""The weights of an artefact: one `model.safetensors`, or several shards and their index, as huggingface_hub splits large ones.

An index says, for every tensor, which shard holds it, and the SHA-256 of every shard; config.json holds the SHA-256 of the index. Tensors
are read by mapping the files into memory: what is not used is never loaded.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from packify.artefact.config import INDEX_FILE, SHARD_FILE, WEIGHTS_FILE, Config
from packify.core.errors import ArtefactError, SpecError

MAX_SHARD_SIZE = "5GB"

_MAX_INDEX_BYTES = 64 * 2**20
_FRESH = "get a fresh copy of the artefact"


def write_weights(tensors: Mapping[str, torch.Tensor], folder: Path, metadata: dict[str, str], max_shard_size: int | str) -> Path:
    """Write `tensors` into `folder` as `model.safetensors`, or as shards of at most `max_shard_size` bytes with their index.

    A tensor that is larger than that has a shard of its own.

    Returns:
        The file that config.json names: the weights or the index.

    Raises:
        SpecError: `max_shard_size` is no size.
        SafetensorError: the weights could not be written.
    """
    from huggingface_hub import split_torch_state_dict_into_shards

    split = split_torch_state_dict_into_shards(dict(tensors), max_shard_size=checked_size(max_shard_size))
    for name, held in (split.filename_to_tensors or {WEIGHTS_FILE: []}).items():
        save_file({tensor: tensors[tensor] for tensor in held}, folder / name, metadata=metadata)
        sort_header(folder / name)
    if not split.is_sharded:
        return folder / WEIGHTS_FILE
    digests = {name: file_sha256(folder / name) for name in sorted(split.filename_to_tensors)}
    index = {"metadata": {**split.metadata, "sha256": digests}, "weight_map": dict(sorted(split.tensor_to_filename.items()))}
    (folder / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return folder / INDEX_FILE


def read_weights(folder: Path, config: Config) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors by name, mapped into memory, and the metadata of their files.

    Raises:
        ArtefactError: a file is missing or was changed, or the index does not say where every tensor is.
    """
    first = _checked(folder / config.weights_file, config.weights_sha256, "config.json")
    if config.weights_file == WEIGHTS_FILE:
        return _opened(first)
    digests, places = read_index(first)
    tensors: dict[str, torch.Tensor] = {}
    metadata: dict[str, str] = {}
    for name, digest in digests.items():
        own, said = _opened(_checked(folder / name, digest, INDEX_FILE))
        metadata |= said
        expected = {tensor for tensor, file in places.items() if file == name}
        if own.keys() != expected:
            different = ", ".join(sorted(own.keys() ^ expected)[:5])
            raise ArtefactError(str(folder / name), found=f"tensors not as in {INDEX_FILE}: {different}", why=_SAYS, fix=_FRESH)
        tensors |= own
    return tensors, metadata


_SAYS = "the index says which shard holds which tensor"


def read_index(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The SHA-256 of every shard by its file name, and the file name of every tensor's shard, of an index that anybody may have written.

    Raises:
        ArtefactError: it is no index.
    """
    try:
        if path.stat().st_size > _MAX_INDEX_BYTES:
            raise ValueError(f"more than {_MAX_INDEX_BYTES} bytes")
        index: Any = json.loads(path.read_text(encoding="utf-8"))
        digests, places = index["metadata"]["sha256"], index["weight_map"]
        files = set(digests)
        if not files or not all(SHARD_FILE.fullmatch(name) and isinstance(digest, str) for name, digest in digests.items()):
            raise ValueError("shards are called model-00001-of-00002.safetensors, each with its SHA-256")
        if not isinstance(places, dict) or not files >= set(places.values()):
            raise ValueError("a tensor is in no shard")
    except OSError as error:
        raise ArtefactError(str(path), found=str(error), why="it cannot be read", fix=_FRESH) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtefactError(str(path), found=f"{type(error).__name__}: {error}"[:300], why=_SAYS, fix=_FRESH) from error
    return dict(sorted(digests.items())), places


def weights_files(folder: Path, config: Config) -> list[Path]:
    """Every file that the weights are in, the index first.

    Raises:
        ArtefactError: the index cannot be read.
    """
    first = folder / config.weights_file
    return [first] if config.weights_file == WEIGHTS_FILE else [first, *(folder / name for name in read_index(first)[0])]


def sort_header(path: Path) -> None:
    """Write the header of a safetensors file in one order: its writer's order of metadata is chance, and the file has a SHA-256."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        ordered = {"__metadata__": dict(sorted(header.pop("__metadata__", {}).items())), **header}
        text = json.dumps(ordered, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= size:
            file.seek(8)
            file.write(text.ljust(size))


def file_sha256(path: Path) -> str:
    """The SHA-256 of a whole file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT]B)?", re.IGNORECASE)


def checked_size(size: int | str, name: str = "max_shard_size") -> int:
    """A number of bytes: ``5_000_000``, ``"80GB"``; an error calls it `name`.

    Raises:
        SpecError: it is none.
    """
    match = _SIZE.fullmatch(str(size).strip()) if not isinstance(size, bool) else None
    count = int(float(match[1]) * _UNITS[(match[2] or "").upper()]) if match else 0
    if count < 1:
        example = f"{name} 80GB" if name.startswith("--") else f'{name}="5GB"'
        raise SpecError(
            name, found=repr(size), why="a size is a number of bytes, or one with KB, MB, GB or TB", fix=f"pass for example {example}"
        )
    return count


def _checked(path: Path, digest: str, teller: str) -> Path:
    if not path.is_file():
        raise ArtefactError(str(path), found="no such file", why="an artefact needs its weights", fix=_FRESH)
    try:
        found = file_sha256(path)
    except OSError as error:
        raise ArtefactError(str(path), found=str(error), why="it cannot be read", fix=_FRESH) from error
    if found != digest:
        raise ArtefactError(
            str(path), found=f"another SHA-256 than {teller} says", why="the file was truncated or changed after it was saved", fix=_FRESH
        )
    return path


def _opened(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise ArtefactError(str(path), found=str(error), why="it cannot be read", fix=_FRESH) from error
