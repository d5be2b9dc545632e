"""Calls on tensors without data, remembered."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from packify.capture.remembered import Layout, RememberedCalls, Unknown, call_key


def _layout_of(value: object) -> Layout | None:
    return Layout.of(value) if isinstance(value, Tensor) else None


def _meta(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


def test_keys_tell_calls_apart() -> None:
    calls = [
        (1,),
        (1.0,),
        (True,),
        ([1],),
        ((1,),),
        (None,),
        ("1",),
        (slice(1, None),),
        (..., 1),
        ({"a": 1},),
        ({"b": 1},),
        (_meta(2, 3),),
        (_meta(3, 2),),
        (_meta(3, 2).t(),),
        (_meta(2, 3).double(),),
        (_meta(2, 3).requires_grad_(),),
        (torch.float32,),
    ]
    keys = [call_key(call, _layout_of) for call in calls]
    assert len(set(keys)) == len(calls)
    assert call_key((_meta(2, 3), [1, None]), _layout_of) == call_key((_meta(2, 3), [1, None]), _layout_of)
    with pytest.raises(Unknown):
        call_key((object(),), _layout_of)


def test_a_call_is_run_once_and_its_tensors_are_fresh() -> None:
    calls, runs = RememberedCalls(), []

    def run() -> tuple[Tensor, int]:
        runs.append(1)
        return _meta(3, 2).t(), 5

    found = [calls("split", run, (_meta(6), 2), {}) for _ in range(3)]
    assert len(runs) == 1
    assert {(tensor.shape, tensor.stride(), number) for tensor, number in found} == {((2, 3), (1, 2), 5)}
    assert len({id(tensor) for tensor, _ in found}) == 3
    calls("split", run, (_meta(6), 3), {})
    calls("other", run, (_meta(6), 2), {})
    calls("split", run, (object(),), {})
    calls("split", run, (object(),), {})
    assert len(runs) == 5


def test_what_gives_nothing_is_remembered_too() -> None:
    calls, runs = RememberedCalls(), []
    for _ in range(2):
        assert calls("nothing", lambda: runs.append(1), (1,), {}) is None
    assert len(runs) == 1
