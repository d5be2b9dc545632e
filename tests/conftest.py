"""What every test shares."""

from __future__ import annotations

import os
from collections.abc import Iterator

# One process a core, one thread a process: also for the processes that tests start. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import Phase, settings

from packify.core.graph_check import graph_checks

# The same examples every time, and a failing one as it was found: shrinking takes minutes. HYPOTHESIS_PROFILE=search looks for others.
settings.register_profile("found", phases=(Phase.explicit, Phase.generate), deadline=None, derandomize=True)
settings.register_profile("search", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "found"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _checked_graphs() -> Iterator[None]:
    """Every graph is checked after every pass."""
    token = graph_checks.set(True)
    yield
    graph_checks.reset(token)
