"""Each file of the package has its mirror: ``packify/nn/tree.py`` is tested by ``tests/unit/nn/test_tree.py``."""

from __future__ import annotations

from pathlib import Path

import packify.core.version

_ROOT = Path(packify.core.version.__file__).parents[1]
_TESTS = Path(__file__).parent


def _mirror(file: Path) -> Path:
    return _TESTS / file.parent / f"test_{file.name.replace('__main__', 'main')}"


def test_every_file_has_its_mirror() -> None:
    files = [path.relative_to(_ROOT) for path in sorted(_ROOT.rglob("*.py")) if path.name != "__init__.py"]
    assert [str(file) for file in files if not _mirror(file).is_file()] == []


def test_every_mirror_holds_tests() -> None:
    empty = [str(path.relative_to(_TESTS)) for path in _TESTS.rglob("test_*.py") if "def test_" not in path.read_text(encoding="utf-8")]
    assert empty == []
