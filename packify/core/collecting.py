"""Python's search for garbage, paused while many small objects are made that live on."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def uncollected(paused: bool = True) -> Iterator[None]:
    """No search for garbage meanwhile, if `paused`; a decorator too.

    A recorded network and its ensemble are some hundred thousand objects, nearly all of which live to the end: to look through them, and
    through all that torch has imported, again and again is a third of the time of making them, and finds next to nothing.
    """
    was = gc.isenabled()
    if paused:
        gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
