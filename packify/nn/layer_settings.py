"""What a layer is set to besides its tensors, as text that is the same in every process."""

from __future__ import annotations

from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import nn

_PLAIN = (bool, int, float, complex, str, type(None), torch.dtype)


def settings(module: nn.Module) -> dict[str, str]:
    """The class, the numbers, the words and the functions of a module and of all its parts, by dotted name: ``{"eps": "1e-05", ...}``."""
    found = {}
    for path, part in module.named_modules():
        prefix = f"{path}." if path else ""
        found[f"{prefix}class"] = type(part).__qualname__
        texts = {key: _text(value) for key, value in vars(part).items() if not key.startswith("_") and key not in ("training", "forward")}
        found |= {prefix + key: text for key, text in texts.items() if text is not None}
    return found


def _text(value: Any) -> str | None:
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, (tuple, list)):
        texts = [_text(item) for item in value]
        return None if None in texts else f"({', '.join(map(str, texts))})"
    if isinstance(value, (type, FunctionType, BuiltinFunctionType)):
        return f"{value.__module__}.{value.__qualname__}"
    return None
