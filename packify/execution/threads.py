"""Members spread over threads, one thread of torch each.

Small members keep one core busy and leave the others waiting at the end of every operator; side by side they need not wait.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import torch

from packify.execution.in_turn import Call

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def over_threads(calls: Sequence[Call]) -> list[tuple[Any, ...]]:
    """One call per member, on as many threads as torch has for one operator; results in order.

    What holds for the calling thread (gradients, autocast, inference mode, streams) holds in these.
    """
    threads = min(len(calls), torch.get_num_threads())
    if threads < 2:
        return [call() for call in calls]
    settings = _Settings()
    return list(_pool(threads).map(settings.run, calls))


def _pool(threads: int) -> ThreadPoolExecutor:
    key = (os.getpid(), threads)  # a forked process has none of its parent's threads
    if key not in _pools:
        own = torch.get_num_threads()
        _pools[key] = ThreadPoolExecutor(threads, "packify-member", initializer=_take_one_thread)
        all_here = threading.Barrier(threads)
        list(_pools[key].map(lambda _: all_here.wait(), range(threads)))
        torch.set_num_threads(own)  # torch keeps the last number that any thread has set for threads yet to come
    return _pools[key]


def _take_one_thread() -> None:
    torch.get_num_threads()  # a thread of its own number is set up the first time that torch is asked
    torch.set_num_threads(1)


class _Settings:
    """The modes of torch that a thread has for itself."""

    def __init__(self) -> None:
        self.gradients, self.inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        self.autocast = [(device, torch.get_autocast_dtype(device)) for device in ("cpu", "cuda") if torch.is_autocast_enabled(device)]

    def run(self, call: Call) -> tuple[Any, ...]:
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(self.inference))
            stack.enter_context(torch.set_grad_enabled(self.gradients))
            for device, dtype in self.autocast:
                stack.enter_context(torch.autocast(device, dtype))
            return call()
