"""Imports point one way, downwards, and the heavy or printing libraries stay in their rooms (DESIGN.md section 7)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import packify.errors

_ROOT = Path(packify.errors.__file__).parent
_FILES = sorted(_ROOT.rglob("*.py"))
# The rooms from the bottom up: a file imports from its own room and from those before it. `packify` is `__init__.py`, the front door.
# `packing` stands below `layers` because packed layers unfold and fold members as the graph around them does.
_FLOORS = (
    "version errors spec report reference tracing packing layers widths rules initialise network ensemble alike brought recording notes "
    "specimen watching laws convert budgets sources packify artefact cli __main__"
).split()
_ROOMS = {"timm": "sources", "torchvision": "sources", "typer": "cli", "rich": "cli"}


def _imports(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere, except for the type checker alone."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        waiting += ast.iter_child_nodes(node)


@pytest.mark.parametrize("path", _FILES, ids=lambda path: str(path.relative_to(_ROOT)))
def test_libraries_stay_in_their_rooms(path: Path) -> None:
    room = path.relative_to(_ROOT).parts[0]
    for name in _imports(path):
        library = name.partition(".")[0]
        assert _ROOMS.get(library, room) == room, f"{path.relative_to(_ROOT)} imports {name}"


def _room(name: str) -> str:
    """The room of ``packify.tracing.trace``, or of a public name such as ``packify.pack``."""
    room = name.split(".")[1] if "." in name else ""
    return room if room in _FLOORS else "packify"


@pytest.mark.parametrize("path", _FILES, ids=lambda path: str(path.relative_to(_ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    own = path.relative_to(_ROOT).parts[0].removesuffix(".py").replace("__init__", "packify")
    below = _FLOORS[: _FLOORS.index(own) + 1]
    upward = {name for name in _imports(path) if name.partition(".")[0] == "packify" and _room(name) not in below}
    assert not upward, f"{path.relative_to(_ROOT)} imports {', '.join(sorted(upward))}"


@pytest.mark.parametrize("path", [path for path in _FILES if path.relative_to(_ROOT).parts[0] not in ("cli", "__init__.py", "__main__.py")])
def test_nothing_imports_the_command_line(path: Path) -> None:
    assert not [name for name in _imports(path) if name.startswith("packify.cli")]


@pytest.mark.parametrize("path", _FILES, ids=lambda path: str(path.relative_to(_ROOT)))
def test_files_can_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 360
