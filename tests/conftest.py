"""What every test shares."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from packify.core.graph_check import graph_checks


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _checked_graphs() -> Iterator[None]:
    """Every graph is checked after every pass."""
    token = graph_checks.set(True)
    yield
    graph_checks.reset(token)
