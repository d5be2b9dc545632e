"""Calls that are recorded whole, as one node: what happens inside is out of sight, or has a gradient of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn import functional as F

script_call = torch.jit.ScriptFunction.__call__


@dataclass(frozen=True)
class OpaqueScriptFunction:
    """A scripted function as a plain one."""

    function: Any
    namespace: ClassVar[str] = "jit"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return script_call(self.function, *args, **kwargs)

    @property
    def __name__(self) -> str:
        return str(self.function.name)


@dataclass(frozen=True)
class OpaqueAutogradFunction:
    """A `torch.autograd.Function` as a plain function: with the backward that its class defines."""

    function: type[torch.autograd.Function]
    namespace: ClassVar[str] = "autograd"

    def __call__(self, *args: Any) -> Any:
        return self.function.apply(*args)

    @property
    def __name__(self) -> str:
        return self.function.__name__


@dataclass(frozen=True)
class Functional:
    """A function of torch.nn.functional that is a closure there, by its name, so that a graph with it can be pickled."""

    name: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(F, self.name)(*args, **kwargs)

    @property
    def __name__(self) -> str:
        return self.name
