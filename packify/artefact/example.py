"""The inputs that a network was recorded with, as JSON: shapes and dtypes, never values of tensors.

A tensor is ``{"shape": [2, 3, 32, 32], "dtype": "float32"}``, a container ``{"tuple": [...]}``, ``{"list": [...]}`` or
``{"dict": {...}}``, and any other value ``{"value": 3}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from packify.core.errors import ArtefactError

_MAX_NESTING = 16
_MAX_AXES = 16
_MAX_AXIS = 2**31
# The dtypes that an input can have, by the names that torch gives them.
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
        torch.complex64,
        torch.complex128,
    )
}


def encode(example: Any) -> dict[str, Any]:
    """`example` as JSON-able data.

    Raises:
        ArtefactError: a leaf is neither a tensor nor plain data.
    """
    if isinstance(example, torch.Tensor):
        dtype = str(example.dtype).removeprefix("torch.")
        if dtype not in _DTYPES:
            raise _unsupported(f"an input of dtype {dtype}")
        return {"shape": list(example.shape), "dtype": dtype}
    if isinstance(example, tuple):
        return {"tuple": [encode(item) for item in example]}
    if isinstance(example, list):
        return {"list": [encode(item) for item in example]}
    if isinstance(example, Mapping) and all(isinstance(key, str) for key in example):
        return {"dict": {key: encode(item) for key, item in example.items()}}
    if example is None or isinstance(example, (bool, int, float, str)):
        return {"value": example}
    raise _unsupported(f"an input of type {type(example).__name__}")


def decode(encoded: object, nesting: int = 0) -> Any:
    """The inverse of `encode`, with tensors on the meta device.

    Raises:
        ArtefactError: `encoded` is not what `encode` writes.
    """
    if nesting > _MAX_NESTING or not isinstance(encoded, dict):
        raise _unreadable(encoded)
    if set(encoded) == {"shape", "dtype"}:
        shape, dtype = encoded["shape"], encoded["dtype"]
        if not _is_shape(shape) or not isinstance(dtype, str) or dtype not in _DTYPES:
            raise _unreadable(encoded)
        return torch.empty(shape, dtype=_DTYPES[dtype], device="meta")
    if len(encoded) != 1:
        raise _unreadable(encoded)
    kind, content = next(iter(encoded.items()))
    if kind == "value" and (content is None or isinstance(content, (bool, int, float, str))):
        return content
    if kind in ("tuple", "list") and isinstance(content, list):
        items = [decode(item, nesting + 1) for item in content]
        return tuple(items) if kind == "tuple" else items
    if kind == "dict" and isinstance(content, dict):
        return {key: decode(item, nesting + 1) for key, item in content.items()}
    raise _unreadable(encoded)


def floating_dtype(example: Any) -> torch.dtype | None:
    """The dtype of the first floating tensor of an example, or None."""
    from torch.utils import _pytree

    leaves = _pytree.tree_leaves(example)
    return next((leaf.dtype for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()), None)


def _is_shape(shape: object) -> bool:
    if not isinstance(shape, list) or len(shape) > _MAX_AXES:
        return False
    numel = 1
    for axis in shape:
        if type(axis) is not int or not 0 <= axis <= _MAX_AXIS:
            return False
        numel *= axis
    return numel <= 2**48


def _unsupported(found: str) -> ArtefactError:
    return ArtefactError(
        "example_inputs",
        found=found,
        why="config.json holds the shapes of the example, so that loading can record the network again",
        fix="pack the network with an example of tensors, numbers, texts, tuples, lists and dicts",
    )


def _unreadable(encoded: object) -> ArtefactError:
    return ArtefactError(
        "config.json: example",
        found=f"{encoded!r:.120}",
        why='an example is {"shape": [...], "dtype": ...}, {"tuple": [...]}, {"list": [...]}, {"dict": {...}} or {"value": ...}',
        fix="get a fresh copy of the artefact",
    )
