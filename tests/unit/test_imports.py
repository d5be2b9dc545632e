"""Imports point one way, downwards, and the heavy or printing libraries stay in their rooms."""

from __future__ import annotations

import ast
import graphlib
from functools import cache
from pathlib import Path

import packify.core.errors

_ROOT = Path(packify.core.errors.__file__).parents[1]
# The rooms from the bottom up: a file imports from its own room and from those before it. `packify` is `__init__.py`, the front door.
_FLOORS = (
    "core training evaluation nn execution capture packing widths ops laws budgets ensembles sources packify artefact exporting "
    "distributed cli __main__".split()
)
_LIBRARIES = {"timm": "sources", "torchvision": "sources", "typer": "cli", "rich": "cli"}
# What runs imports nothing of the passes that compile it.
_ROOT_FILES = {"__init__.py", "__main__.py"}
_MOST_LINES = 360


@cache
def _imports() -> dict[str, frozenset[str]]:
    """Per file, every module that it imports anywhere, except for the type checker alone; each file is parsed once."""
    return {str(path.relative_to(_ROOT)): _of(ast.parse(path.read_text(encoding="utf-8"))) for path in sorted(_ROOT.rglob("*.py"))}


def _of(tree: ast.AST) -> frozenset[str]:
    found: set[str] = set()
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        waiting += ast.iter_child_nodes(node)
    return frozenset(found)


def _room(name: str) -> str:
    """The room of ``packify.capture.graphs``, or of a public name such as ``packify.pack``."""
    room = name.split(".")[1] if "." in name else ""
    return room if room in _FLOORS else "packify"


def _room_of_file(file: str) -> str:
    return file.partition("/")[0].removesuffix(".py").replace("__init__", "packify")


def test_the_root_holds_the_public_names_and_nothing_else() -> None:
    assert {path.name for path in _ROOT.glob("*.py")} == _ROOT_FILES
    assert {file.partition("/")[0] for file in _imports() if "/" in file} <= set(_FLOORS)


def test_libraries_stay_in_their_rooms() -> None:
    wrong = [
        f"{file} imports {name}"
        for file, names in _imports().items()
        for name in names
        if (library := name.partition(".")[0]) in _LIBRARIES and _LIBRARIES[library] != _room_of_file(file)
    ]
    assert not wrong


def test_imports_point_downwards() -> None:
    wrong = []
    for file, names in _imports().items():
        below = _FLOORS[: _FLOORS.index(_room_of_file(file)) + 1]
        wrong += [f"{file} imports {name}" for name in names if name.partition(".")[0] == "packify" and _room(name) not in below]
    assert not wrong


def test_no_files_import_each_other_in_a_circle() -> None:
    files = {"packify." + file.removesuffix(".py").removesuffix("/__init__").replace("/", "."): file for file in _imports()}
    graph = {file: {files[name] for name in names if name in files} - {file} for file, names in _imports().items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the files


def test_no_module_has_the_name_of_a_function_that_it_defines() -> None:
    wrong = []
    for path in _ROOT.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        wrong += [str(path.relative_to(_ROOT)) for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == path.stem]
    assert not wrong


def test_no_room_has_a_public_name() -> None:
    assert not set(packify.__all__) & set(_FLOORS)


def test_files_can_be_read_in_one_sitting() -> None:
    lines = {str(path.relative_to(_ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in _ROOT.rglob("*.py")}
    assert not {file for file, count in lines.items() if count > _MOST_LINES}
