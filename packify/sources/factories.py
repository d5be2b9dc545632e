"""A user's own networks: `path/to/file.py:factory` and `package.module:factory`."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from packify.core.errors import SourceError
from packify.sources.registry import Wanted
from packify.sources.source import Kind

_CHANNEL_KEYWORDS = ("in_chans", "in_channels")


@dataclass(frozen=True)
class Factory:
    """A function or class of the user's that builds a reference.

    Attributes:
        name: as the user wrote it.
        build: the callable itself.
        folder: put on the import path while the user's code runs.
    """

    name: str
    build: Callable[..., Any]
    folder: Path

    def arguments(self, wanted: Wanted, given: dict[str, Any]) -> dict[str, Any]:
        """The keyword arguments for `build`: those given, and what is wanted under the names that its signature has.

        Raises:
            SourceError: something is wanted that the factory has no argument for.
        """
        try:
            parameters = inspect.signature(self.build).parameters
        except (TypeError, ValueError):
            parameters = {}  # type: ignore[assignment] # a built-in without a signature takes nothing that can be named
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        args = dict(given)
        if wanted.num_classes is not None:
            args.setdefault(self._keyword(("num_classes",), "--num-classes", tuple(parameters), takes_any), wanted.num_classes)
        if wanted.in_chans is not None:
            args.setdefault(self._keyword(_CHANNEL_KEYWORDS, "--in-chans", tuple(parameters), takes_any), wanted.in_chans)
        if wanted.input_size is not None and "input_size" in parameters:
            args.setdefault("input_size", wanted.input_size)
        return args

    def __call__(self, args: dict[str, Any]) -> nn.Module:
        """A new network.

        Raises:
            SourceError: the factory raises, or returns something else.
        """
        model = self.guarded(self.build, args)
        if not isinstance(model, nn.Module):
            raise SourceError(
                self.name,
                found=f"an object of type {type(model).__name__}",
                why="a factory returns the network, a torch.nn.Module",
                fix="end the factory with `return model`",
            )
        return model

    def guarded(self, call: Callable[..., Any], args: dict[str, Any] | None = None) -> Any:
        """What the user's `call` returns; whatever it raises becomes one error that shows their line.

        Raises:
            SourceError: the call raised.
        """
        with importable(self.folder):
            try:
                return call(**args or {})
            except (Exception, SystemExit) as error:
                raise raised(self.name, error, "the factory raised this while it was called") from error

    def _keyword(self, spellings: tuple[str, ...], option: str, parameters: tuple[str, ...], takes_any: bool) -> str:
        for spelling in spellings:
            if spelling in parameters:
                return spelling
        if takes_any:
            return spellings[0]
        raise SourceError(
            self.name,
            found=f"{option}, but the factory takes ({', '.join(parameters)})",
            why=f"there is no argument to pass it by: {' or '.join(spellings)}",
            fix=f"leave {option} out, pass the factory's own argument with --arg key=value, or add {spellings[0]} to the factory",
        )


def find_factory(kind: Kind, name: str) -> Factory:
    """The factory that `name` spells: runs the user's file or imports the user's module.

    Raises:
        SourceError: the file or module is missing or raises, or has no such factory.
    """
    where, _, attribute = name.rpartition(":")
    folder = Path(where).expanduser().resolve().parent if kind == "file" else Path.cwd()
    with importable(folder):
        module = _run_file(Path(where).expanduser().resolve(), name) if kind == "file" else _import_module(where, name)
    found: Any = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if found is None:
        public = [key for key, value in vars(module).items() if callable(value) and getattr(value, "__module__", None) == module.__name__]
        raise SourceError(
            name,
            found=f"no {attribute} in {where}",
            why=f"it defines {', '.join(public) or 'no function or class'}",
            fix=f"pass {where}:{public[0]}" if public else f"define a function {attribute} that returns the network",
        )
    if isinstance(found, nn.Module) or not callable(found):
        raise SourceError(
            name,
            found=f"an object of type {type(found).__name__}",
            why="a factory is a function or a class: packify builds the network itself, with the arguments it is given",
            fix=f"define `def build(): return {attribute}` in {where} and pass {where}:build",
        )
    return Factory(name, found, folder)


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """The user's folder first on the import path, so that their files find each other."""
    entry = os.fspath(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(entry)


def _run_file(path: Path, name: str) -> ModuleType:
    if not path.is_file():
        raise SourceError(name, found=f"no file {path}", why="the factory is read from that file", fix="check the path before the colon")
    key = f"packify_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(key, path)
    if spec is None or spec.loader is None:
        raise SourceError(name, found=str(path), why="Python cannot load it as a module", fix="pass a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[key] = module  # dataclasses and inspect look a class's module up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[key]
        raise raised(name, error, "the file raised this while it was read") from error
    return module


def _import_module(where: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name is None or not (where == error.name or where.startswith(f"{error.name}.")):
            raise raised(name, error, "the module raised this while it was imported") from error
        raise SourceError(
            name,
            found=f"no module {error.name}",
            why="it is neither installed nor in this folder",
            fix="install it, or pass path/to/file.py:factory",
        ) from error
    except (Exception, SystemExit) as error:
        raise raised(name, error, "the module raised this while it was imported") from error


def raised(name: str, error: BaseException, why: str) -> SourceError:
    """One error that shows the user's own line, the last that ran outside packify and installed packages."""
    message = str(error).strip() or "no message"
    where = name
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{error.filename}:{error.lineno}: {(error.text or '').strip()}"
        message = error.msg
    else:
        own = os.fspath(Path(__file__).parent)
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if "site-packages" not in frame.filename and not frame.filename.startswith((own, "<frozen")) and os.path.isfile(frame.filename)  # noqa: PTH113 - a text
        ]
        stdlib = os.path.dirname(os.__file__)  # noqa: PTH120 - a text
        frames = [frame for frame in frames if not frame.filename.startswith(stdlib)] or frames
        if frames:
            where = f"{frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line}"
    return SourceError(
        where,
        found=f"{type(error).__name__}: {message}",
        why=why,
        fix=f"correct that line, or what {name} is called with (--arg key=value)",
    )
