from __future__ import annotations

from typing import Any

import pytest

from packify.core.errors import SourceError, SpecError
from packify.sources import parse_argument, parse_input_size


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("k=3", 3),
        ("k=1.5", 1.5),
        ("k=[1, 2]", [1, 2]),
        ("k=None", None),
        ("k=True", True),
        ("k=relu", "relu"),
        ("k=a=b", "a=b"),
        ("k=", ""),
        ("k=f(1)", "f(1)"),
    ],
)
def test_values_are_literals_else_texts(text: str, value: Any) -> None:
    assert parse_argument(text) == ("k", value)


@pytest.mark.parametrize("text", ["k", "=3", "a-b=3", "1k=3"])
def test_arguments_need_a_key(text: str) -> None:
    with pytest.raises(SourceError, match="key=value"):
        parse_argument(text)


@pytest.mark.parametrize(("text", "size"), [("3x224x224", (3, 224, 224)), ("784", (784,)), ("3x16x112x112", (3, 16, 112, 112))])
def test_input_size(text: str, size: tuple[int, ...]) -> None:
    assert parse_input_size(text) == size


@pytest.mark.parametrize("text", ["", "0x3", "3x", "3X4", "-3x4", "3,224,224", "3x224x", "1e3"])
def test_input_size_refused(text: str) -> None:
    with pytest.raises(SpecError, match="3x224x224"):
        parse_input_size(text)
