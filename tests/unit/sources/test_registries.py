from __future__ import annotations

import subprocess
import sys

import pytest

from packify.sources.registries import registry_of
from packify.sources.registry import Registry
from packify.sources.source import REGISTRIES


@pytest.mark.parametrize("kind", REGISTRIES)
def test_every_registry_is_one(kind: str) -> None:
    registry: Registry = registry_of(kind)  # type: ignore[arg-type]
    assert {name for name in vars(Registry) if not name.startswith("_")} <= {name for name in dir(registry) if not name.startswith("_")}
    assert "resnet18" in registry.names()
    assert registry.knows("resnet18")
    assert not registry.knows("resnet18_of_nobody")


@pytest.mark.slow
def test_a_registry_is_imported_when_it_is_asked_for() -> None:
    code = "import sys, packify.sources.registries; print({'timm', 'torchvision'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.slow
def test_a_library_is_imported_ahead_of_building() -> None:
    code = "import sys; from packify import sources; {}; print('timm' in sys.modules)"
    for call, imported in (("sources.import_library(None)", True), ("sources.import_library('file')", False)):
        assert (
            subprocess.run([sys.executable, "-c", code.format(call)], capture_output=True, text=True, check=True).stdout == f"{imported}\n"
        )
