from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from packify.artefact.example import decode, encode, floating_dtype
from packify.core.errors import ArtefactError


def test_round_trip_keeps_structure_and_no_values() -> None:
    example = {"x": torch.randn(2, 3), "more": (torch.zeros(1, dtype=torch.long), [3, None, "a", True])}
    encoded = encode(example)
    decoded = decode(json.loads(json.dumps(encoded)))
    assert decoded["x"].is_meta
    assert decoded["x"].shape == (2, 3)
    assert decoded["more"][0].dtype == torch.long
    assert decoded["more"][1] == [3, None, "a", True]
    assert encode(decoded) == encoded


def test_floating_dtype() -> None:
    assert floating_dtype((torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.float64))) == torch.float64
    assert floating_dtype(torch.zeros(1, dtype=torch.long)) is None


def test_objects_are_refused() -> None:
    with pytest.raises(ArtefactError, match="of type object"):
        encode((object(),))


def _nested(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"value": 1}
    for _ in range(depth):
        inner = {"list": [inner]}
    return inner


@pytest.mark.parametrize(
    "encoded",
    [
        None,
        [],
        {},
        {"shape": [2]},
        {"shape": [2], "dtype": "float33"},
        {"shape": [2], "dtype": ["float32"]},
        {"shape": [-1], "dtype": "float32"},
        {"shape": [True], "dtype": "float32"},
        {"shape": [2**40], "dtype": "float32"},
        {"shape": [2**30, 2**30], "dtype": "float32"},
        {"shape": [1] * 100, "dtype": "float32"},
        {"value": [1]},
        {"tuple": 3},
        {"dict": []},
        {"eval": "1"},
        {"list": [1]},
        _nested(50),
    ],
)
def test_damaged_examples_are_refused(encoded: Any) -> None:
    with pytest.raises(ArtefactError):
        decode(encoded)
