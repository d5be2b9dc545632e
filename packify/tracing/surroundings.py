"""What is different around a network while it is recorded, and put back afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch.distributions import Distribution

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
def surroundings(recorder: Recorder) -> Iterator[None]:
    """The recorder is on; what asks for values is told that there are none.

    Scripted functions run out of sight, so each call is recorded whole. torch.distributions does not validate its arguments.
    Libraries that ask ``torch.compiler.is_compiling()`` to know that they may not branch on values are told so.
    """

    def call(function: Any, *args: Any, **kwargs: Any) -> Any:
        if not recorder.active:
            return _ORIGINAL(function, *args, **kwargs)
        return recorder.__torch_function__(Scripted(function), (), args, kwargs)

    validated = Distribution._validate_args
    with ExitStack() as stack:
        stack.enter_context(patch.object(torch.jit.ScriptFunction, "__call__", call))
        stack.enter_context(patch.object(torch.compiler, "is_compiling", lambda: True))
        stack.callback(Distribution.set_default_validate_args, validated)
        Distribution.set_default_validate_args(False)
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(recorder)
        yield
