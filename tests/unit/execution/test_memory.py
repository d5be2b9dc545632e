from __future__ import annotations

import torch

from packify.execution.memory import peak_bytes

CPU = torch.device("cpu")


def test_what_is_alive_at_once_counts() -> None:
    def one_by_one() -> None:
        for _ in range(3):
            torch.zeros(1000).add(1)

    def together() -> None:
        kept = [torch.zeros(1000) for _ in range(3)]
        kept.clear()

    assert peak_bytes(one_by_one, CPU) == 8000
    assert peak_bytes(together, CPU) == 12000


def test_views_and_what_was_there_before_do_not() -> None:
    x = torch.zeros(1000)
    assert peak_bytes(lambda: x.view(10, 100).add_(1), CPU) == 0
