"""Texts from a command line, as values: `--arg key=value` and `--input-size 3x224x224`."""

from __future__ import annotations

import ast
import re
from typing import Any

from packify.core.errors import SourceError, SpecError

_SIZE = re.compile(r"[1-9]\d{0,8}(x[1-9]\d{0,8})*")


def parse_argument(text: str) -> tuple[str, Any]:
    """``"depth=3"`` as ``("depth", 3)``: the value is a Python literal where it reads as one, else the text itself.

    Raises:
        SourceError: there is no ``=``, or the key is no Python identifier.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise SourceError(
            "--arg", found=repr(text), why="an argument for the factory is written key=value", fix="pass for example --arg depth=3"
        )
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return key, value


def parse_input_size(text: str) -> tuple[int, ...]:
    """``"3x224x224"`` as ``(3, 224, 224)``: the shape of one input, without its batch axis.

    Raises:
        SpecError: the text is not whole numbers of at least 1 with an x between them.
    """
    if not _SIZE.fullmatch(text):
        raise SpecError(
            "--input-size",
            found=repr(text),
            why="a size is whole numbers from 1 to 999999999 with an x between them, channels first and without the batch",
            fix="pass for example --input-size 3x224x224",
        )
    return tuple(int(axis) for axis in text.split("x"))
