"""Functions compiled by torch.jit.script: what happens inside is out of sight, so each call is one operator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from packify.tracing.recorder import Recorder


@dataclass(frozen=True, eq=False)
class Scripted:
    """A scripted function as a plain one."""

    function: Any

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _ORIGINAL(self.function, *args, **kwargs)

    @property
    def __name__(self) -> str:
        return str(self.function.name)


_ORIGINAL = torch.jit.ScriptFunction.__call__


@contextmanager
def scripted_as_one(recorder: Recorder) -> Iterator[None]:
    """While a network is recorded, calls of scripted functions are recorded whole."""

    def call(function: Any, *args: Any, **kwargs: Any) -> Any:
        if not recorder.active:
            return _ORIGINAL(function, *args, **kwargs)
        return recorder.__torch_function__(Scripted(function), (), args, kwargs)

    torch.jit.ScriptFunction.__call__ = call  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        torch.jit.ScriptFunction.__call__ = _ORIGINAL  # type: ignore[method-assign]
