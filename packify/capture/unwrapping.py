"""The model that a user passes: what can be packed, out of what other tools have wrapped around it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from packify.core.errors import TraceError

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def unwrap(model: Any, where: str = "model") -> nn.Module:
    """The module itself: without the wrapper of `torch.compile` or of data parallelism, so that its names are the user's.

    Raises:
        TraceError: it is no module, or one whose Python code is gone.
    """
    if isinstance(model, str):
        raise _refused(where, f"the name {model!r}", f"pass packify.load_reference({model!r})")
    if isinstance(model, type) and issubclass(model, nn.Module):
        raise _refused(where, f"the class {model.__name__}", f"pass an instance, {model.__name__}(...)")
    if not isinstance(model, nn.Module):
        raise _refused(where, f"a {type(model).__name__}", "pass the module itself")
    if isinstance(model, (torch.jit.ScriptModule, torch.jit.ScriptFunction)):
        raise TraceError(
            where,
            found="a scripted module",
            why="it is recorded by running its Python code, and a scripted module has none any more",
            fix="pass the module that it was made from",
        )
    wrapped = vars(model).get("_modules", {}).get("_orig_mod" if not isinstance(model, _WRAPPERS) else "module")
    return model if wrapped is None else unwrap(wrapped, where)


def _refused(where: str, found: str, fix: str) -> TraceError:
    return TraceError(where, found=found, why="only a torch.nn.Module can be packed", fix=fix)
