from __future__ import annotations

import re
from importlib import metadata

import packify
from packify.core.version import __version__


def test_one_version_everywhere() -> None:
    assert packify.__version__ == __version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)
    assert metadata.version("packify-torch") == __version__
