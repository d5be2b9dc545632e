"""A call on Python's stack as a value that can be made again on another tensor or layer."""

from __future__ import annotations

import contextlib
import enum
import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from types import BuiltinFunctionType, CellType, CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from packify.nn.recipes import SUBJECT, Call

_NEVER = frozenset(("__init__", "__new__", "__torch_function__", "__call__", "<module>"))
_GENERATORS = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
# Frames that stand between a method of a tensor and the code that called it.
_BETWEEN = ("torch/overrides.py", "torch/utils/_device.py", "packify/sources/calls.py", "packify/sources/observing.py")
# How deep arguments may be nested.
_DEEPEST = 4
# Whole numbers below this are counts that any layer may have (kernel sizes, dimensions), not widths.
_FEW = 5
# How many frames stand at most between a function of torch.nn.init and the method of a tensor that it calls.
_NEAR = 14
_TORCH = (torch.dtype, torch.device, torch.layout, torch.memory_format)


def frames(stop: CodeType) -> Iterator[FrameType]:
    """The stack from the code that called torch to the frame that runs `stop`, which is left out.

    It ends below a constructor: whoever calls one has not got the tensors that it makes.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not stop:
        if frame.f_code.co_name == "__init__":
            return
        if not frame.f_code.co_filename.endswith(_BETWEEN):
            yield frame
        frame = frame.f_back


def init_frame() -> FrameType | None:
    """The outermost public function of torch.nn.init among those that are running."""
    found, frame = None, sys._getframe(1)
    steps: FrameType | None = frame
    for _ in range(_NEAR):
        if steps is None:
            break
        if steps.f_globals.get("__name__") == "torch.nn.init":
            found = steps if not steps.f_code.co_name.startswith("_") else found
        elif found is not None and not steps.f_code.co_filename.endswith(_BETWEEN):
            break
        steps = steps.f_back
    return found


@contextlib.contextmanager
def truncated_on_meta() -> Iterator[None]:
    """While this is open, torch's truncated normal writes to meta tensors as well, where it calls no method that could be observed."""
    name = "_no_grad_trunc_normal_"
    own = getattr(nn.init, name, None)
    if own is None:
        yield
        return

    def written(tensor: Tensor, mean: float, std: float, *args: Any, **kwargs: Any) -> Tensor:
        with torch.no_grad():
            return tensor.normal_(mean, std) if tensor.is_meta else own(tensor, mean, std, *args, **kwargs)

    setattr(nn.init, name, written)
    try:
        yield
    finally:
        setattr(nn.init, name, own)


def site() -> str:
    """The line that called torch."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.endswith(_BETWEEN):
        frame = frame.f_back
    return line_of(frame)


def line_of(frame: FrameType | None) -> str:
    """``"path:line"``."""
    return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def call_of_frame(frame: FrameType, is_subject: Callable[[Any], bool], sizes: Iterable[int]) -> tuple[Call, Any] | None:
    """The call that a frame runs, and the tensor or layer it was given; None if it was given anything else that is not plain.

    Args:
        frame: of a function that has not returned.
        is_subject: which arguments are the tensor that is being filled, or the layer that holds it.
        sizes: whole numbers that may have been computed from a width: a call that was given one cannot be repeated at another.
    """
    code = frame.f_code
    if code.co_name in _NEVER or code.co_flags & _GENERATORS:
        return None
    named, extra = code.co_argcount + code.co_kwonlyargcount, list(code.co_varnames)
    flags = code.co_flags
    if not named and not flags & inspect.CO_VARARGS:
        return None
    values = frame.f_locals
    names = extra[:named]
    if any(name not in values for name in names):
        return None
    positional = [values[name] for name in names[: code.co_argcount]]
    rest = named
    if flags & inspect.CO_VARARGS:
        positional += values.get(extra[rest], ())
        rest += 1
    keywords = {name: values[name] for name in names[code.co_argcount :]}
    if flags & inspect.CO_VARKEYWORDS:
        keywords |= values.get(extra[rest], {})
    given = (*positional, *keywords.values())
    subjects = [value for value in given if isinstance(value, (Tensor, nn.Module))]
    if len(subjects) != 1 or not is_subject(subjects[0]):
        return None
    subject, sizes = subjects[0], set(sizes)
    others = [value for value in given if value is not subject]
    if not is_plain(others) or any(isinstance(value, (FunctionType, functools.partial)) for value in others):
        return None  # a function that calls another one with the layer: that one is on the stack as well
    if any(type(value) is int and value >= _FEW and value in sizes for value in others):
        return None
    function = _function_of(frame)
    if function is None:
        return None
    args = tuple(SUBJECT if value is subject else value for value in positional)
    kwargs = {key: SUBJECT if value is subject else value for key, value in keywords.items()}
    of_module = isinstance(subject, nn.Module)
    name = _name(code.co_name, function, args, type(subject).__name__) if of_module else code.co_name
    return Call(function, args, kwargs, of_module, name, _told(function, args, kwargs), line_of(frame.f_back)), subject


def call_of_method(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], site: str) -> Call:
    """A method of a tensor, or a function of torch, that was called on a tensor and plain values."""
    name = getattr(function, "__name__", "")
    first = next((key for key in ("tensor", "input") if not args and isinstance(kwargs.get(key), Tensor)), None)
    ordered = (SUBJECT, *args[1:]) if args else ()
    named = {key: SUBJECT if key == first else value for key, value in kwargs.items()}
    return Call(function, ordered, named, False, name, _told(function, ordered, named), site)


def is_plain(value: Any, depth: int = 0) -> bool:
    """Whether a value, and everything nested in it, is a number, a word, a type or a function: no tensor, no network, no other object."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, enum.Enum, type, ModuleType, _TORCH)):
        return True
    if depth > _DEEPEST:
        return False
    if isinstance(value, (tuple, list, set, frozenset)):
        return all(is_plain(item, depth + 1) for item in value)
    if isinstance(value, dict):
        return all(is_plain(item, depth + 1) for item in value.values())
    if isinstance(value, functools.partial):
        return is_plain((value.func, value.args, value.keywords), depth + 1)
    if isinstance(value, BuiltinFunctionType):
        return value.__self__ is None or isinstance(value.__self__, ModuleType)
    if isinstance(value, FunctionType):
        return all(_is_plain_cell(cell, depth) for cell in value.__closure__ or ())
    return False


def _is_plain_cell(cell: CellType, depth: int) -> bool:
    try:
        return is_plain(cell.cell_contents, depth + 1)
    except ValueError:  # empty
        return False


def _function_of(frame: FrameType) -> Callable[..., Any] | None:
    """The function that a frame runs: the one of that name where it is, else one made of its code and what it closes over."""
    code = frame.f_code
    known = frame.f_globals.get(code.co_name)
    if isinstance(known, FunctionType) and known.__code__ is code:
        return known
    values = frame.f_locals
    if any(name not in values or not is_plain(values[name]) for name in code.co_freevars):
        return None
    return FunctionType(code, frame.f_globals, code.co_name, None, tuple(CellType(values[name]) for name in code.co_freevars))


def _name(name: str, function: Callable[..., Any], args: tuple[Any, ...], layer: str) -> str:
    """``"Linear.reset_parameters"`` for a method, ``"init_weight_goog of Conv2d"`` for a function."""
    code = getattr(function, "__code__", None)
    is_method = args[:1] == (SUBJECT,) and code is not None and code.co_varnames[:1] == ("self",)
    return f"{layer}.{name}" if is_method else f"{name} of {layer}"


def _told(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[int | str, str]:
    """The arguments that are not the function's defaults, with their names."""
    parameters = inspect.signature(function).parameters if isinstance(function, FunctionType) else {}
    names = dict(enumerate(parameters))
    places: list[tuple[int | str, str, Any]] = [(index, names.get(index, ""), value) for index, value in enumerate(args)]
    places += [(key, key, value) for key, value in kwargs.items() if value is not None]
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    return {place: name for place, name, value in places if value is not SUBJECT and (name not in defaults or defaults[name] != value)}
