"""`python -m packify` is the `packify` program."""

from __future__ import annotations

import subprocess
import sys

from packify.core.version import __version__


def test_the_module_runs_as_the_program() -> None:
    done = subprocess.run([sys.executable, "-m", "packify", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"packify {__version__}\n"
