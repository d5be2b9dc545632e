"""What every test shares."""

from __future__ import annotations

import gc
import os
import zlib
from collections import defaultdict
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


# Of a test with more cases than this, the quick suite runs as many, chosen by their names; -m cases runs the others.
_QUICK_CASES = 2


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow cases and the other ones, before they are left out."""
    cases: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        test, _, case = item.nodeid.partition("[")
        slow = item.get_closest_marker("slow_cases")
        if slow is not None and any(part in case for part in slow.args):
            item.add_marker(pytest.mark.slow)
        elif item.get_closest_marker("quick_cases") or not item.get_closest_marker("slow"):
            cases[test].append(item)
    for of_one in cases.values():
        mark = of_one[0].get_closest_marker("quick_cases")
        of_one.sort(key=lambda item: zlib.crc32(item.nodeid.encode()))
        for item in of_one[mark.args[0] if mark else _QUICK_CASES :]:
            item.add_marker(pytest.mark.cases)


def pytest_collection_finish() -> None:
    """What is imported by now stays: it is not searched for garbage again and again, a tenth of the time of the tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _checked_graphs() -> Iterator[None]:
    """Every graph is checked after every pass."""
    token = graph_checks.set(True)
    yield
    graph_checks.reset(token)
