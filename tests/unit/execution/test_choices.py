from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from packify.execution.choices import Choice, device_name, key_of, merged, nearest

CPU = torch.device("cpu")
STRATEGIES, FORMATS = ("grouped", "in turn"), ("contiguous", "channels_last")


def _choice(batch: int = 8, strategy: str = "in turn", mode: str = "infer") -> Choice:
    return Choice(device_name(CPU), "float32", torch.get_num_threads(), mode, batch, (batch + 1) // 2, 2 * batch, strategy, "contiguous")  # type: ignore[arg-type]


def test_the_nearest_batch_is_taken() -> None:
    choices = [_choice(4, "grouped"), _choice(16)]
    for batch, expected in ((1, None), (2, "grouped"), (4, "grouped"), (8, "grouped"), (9, "in turn"), (32, "in turn"), (33, None)):
        found = nearest(choices, CPU, [torch.zeros(batch, 3)], training=False)
        assert (found.strategy if found else None) == expected, batch


def test_another_mode_dtype_or_number_of_threads_has_none() -> None:
    choices = [_choice()]
    assert nearest(choices, CPU, [torch.zeros(8, 3)], training=True) is None
    assert nearest(choices, CPU, [torch.zeros(8, 3, dtype=torch.float64)], training=False) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert nearest(choices, CPU, [torch.zeros(8, 3)], training=False) is None
        assert key_of(CPU, [torch.zeros(8, 3)], train=False)[1] == "bfloat16"
    assert nearest([replace(choices[0], threads=99)], CPU, [torch.zeros(8, 3)], training=False) is None


def test_a_new_choice_takes_the_place_of_the_old_one() -> None:
    choices = merged(merged((), _choice()), _choice(16))
    assert [one.batch for one in choices] == [8, 16]
    assert [one.strategy for one in merged(choices, _choice(8, "grouped"))] == ["in turn", "grouped"]


def test_a_choice_is_written_and_read() -> None:
    assert Choice.from_dict(_choice().to_dict(), STRATEGIES, FORMATS) == _choice()


@pytest.mark.parametrize(
    "change",
    [
        {"strategy": "fast"},
        {"mode": "both"},
        {"batch": -1},
        {"batch": True},
        {"batch": "8"},
        {"device": 3},
        {"device": "x" * 300},
        {"more": 1},
    ],
)
def test_what_anybody_may_have_written_is_checked(change: dict) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the artefact says which file it was
        Choice.from_dict(_choice().to_dict() | change, STRATEGIES, FORMATS)


@pytest.mark.parametrize("values", [None, [], "x", {}])
def test_what_is_no_choice_is_refused(values: object) -> None:
    with pytest.raises(ValueError, match="fields"):
        Choice.from_dict(values, STRATEGIES, FORMATS)  # type: ignore[arg-type]
