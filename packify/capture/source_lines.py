"""Which line of a user's code is running."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from types import FrameType

import torch

# With a separator: torchvision's folder starts as torch's does.
_SKIPPED_FRAMES = (*(f"{folder}{os.sep}" for folder in (torch.__path__[0], Path(__file__).parent.parent)), contextlib.__file__)


def source_line() -> str:
    """``file.py:123`` of the line in the user's code that is running."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        filename = frame.f_code.co_filename
        if not filename.startswith(_SKIPPED_FRAMES):
            return f"{filename}:{frame.f_lineno}"
        frame = frame.f_back
    return "unknown source"
