"""The most memory that a call holds at once."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_bytes(function: Callable[[], object], device: torch.device) -> int:
    """Bytes that a call holds at once, at most, besides what was there before; on a CPU, without the kernels' own working memory."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device) - before)
    with _Counting() as counting:
        function()
    return int(counting.most)


class _Counting(TorchDispatchMode):
    """Follows the memory that operators make, from when they make it until it is freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive: dict[int, int] = {}
        self.now = self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {one.untyped_storage()._cdata for one in tree_leaves((args, kwargs or {})) if isinstance(one, Tensor)}
        out = func(*args, **(kwargs or {}))
        for one in tree_leaves(out):
            if isinstance(one, Tensor):
                self._see(one.untyped_storage(), given)
        self.most = max(self.most, self.now)
        return out

    def _see(self, storage: Any, given: set[int]) -> None:
        key = storage._cdata
        if key in given or key in self.alive:
            return
        self.alive[key] = size = storage.nbytes()
        self.now += size
        weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.now -= self.alive.pop(key, 0)
