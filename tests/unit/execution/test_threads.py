from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from packify.execution.threads import over_threads
from tests.unit.execution.networks import image, packed_convs


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_calls_keep_their_order() -> None:
    names: set[str] = set()

    def call(number: int) -> tuple[int]:
        names.add(threading.current_thread().name)
        return (number,)

    assert over_threads([lambda number=number: call(number) for number in range(6)]) == [(number,) for number in range(6)]
    assert all(name.startswith("packify-member") for name in names)
    assert torch.get_num_threads() == 2


def test_each_has_one_thread_of_torch_and_the_callers_modes() -> None:
    def modes() -> tuple[int, bool, bool, bool, torch.dtype]:
        return (
            torch.get_num_threads(), torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"),
            torch.get_autocast_dtype("cpu"),
        )  # fmt: skip

    with torch.no_grad(), torch.autocast("cpu", torch.float16):
        assert over_threads([modes, modes]) == [(1, False, False, True, torch.float16)] * 2
    with torch.inference_mode():
        assert over_threads([modes, modes]) == [(1, False, True, False, torch.bfloat16)] * 2
    assert over_threads([modes, modes]) == [(1, True, False, False, torch.bfloat16)] * 2


def test_an_error_in_a_thread_is_the_callers() -> None:
    def fail() -> tuple[int]:
        raise ValueError("in a member")

    with pytest.raises(ValueError, match="in a member"):
        over_threads([fail, fail])


def test_a_network_trains_over_threads() -> None:
    packed, other = (packed_convs().double().train() for _ in range(2))
    packed.strategy, other.strategy = "threads", "in turn"
    for network in (packed, other):
        network.members(image().double()).sin().sum().backward()
    for mine, theirs in zip(packed.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)
    for mine, theirs in zip(packed.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs)
