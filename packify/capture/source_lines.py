"""Which line of a user's code is running."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

import torch

_SKIPPED_FRAMES = (torch.__path__[0], str(Path(__file__).parent.parent))


def source_line() -> str:
    """``file.py:123`` of the line in the user's code that is running."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        filename = frame.f_code.co_filename
        if not filename.startswith(_SKIPPED_FRAMES):
            return f"{filename}:{frame.f_lineno}"
        frame = frame.f_back
    return "unknown source"
