"""What is different around a network while it is recorded, and put back afterwards."""

from __future__ import annotations

import builtins
import functools
import math
import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torch.autograd.function import FunctionCtx, FunctionMeta
from torch.autograd.variable import VariableMeta
from torch.distributions import Distribution
from torch.utils.checkpoint import CheckpointFunction

from packify.capture.opaque import OpaqueAutogradFunction, OpaqueScriptFunction, script_call
from packify.capture.recorder import Recorder
from packify.capture.symbolic import SymbolicNumber, followed


@contextmanager
def patched(recorder: Recorder) -> Iterator[None]:
    """The recorder is on; what asks for values is told that there are none.

    What torch and Python do without telling the recorder is told: calls of scripted functions and of `torch.autograd.Function`,
    tensors that become an `nn.Parameter` or a `torch.autograd.Variable`, what the math module computes from sizes, ``len(tensor)``.
    torch.distributions does not validate its arguments.
    Libraries that ask ``torch.compiler.is_compiling()`` to know that they may not branch on values are told so.
    """
    import torch._dynamo

    validated = Distribution._validate_args
    with ExitStack() as stack:
        stack.enter_context(patch.object(torch.jit.ScriptFunction, "__call__", _script_call(recorder)))
        stack.enter_context(patch.object(FunctionMeta, "__getattribute__", _function_attribute(recorder), create=True))
        stack.enter_context(patch.object(nn.Parameter, "__new__", _detached(recorder, nn.Parameter.__new__)))
        stack.enter_context(patch.object(VariableMeta, "__call__", _detached(recorder, type.__call__), create=True))
        stack.enter_context(patch.object(torch.autocast, "__enter__", _autocast(recorder, torch.autocast.__enter__)))
        stack.enter_context(patch.object(torch.compiler, "is_compiling", lambda: True))
        stack.enter_context(patch.object(torch.compiler, "is_exporting", lambda: True))
        stack.enter_context(patch.object(builtins, "len", _length(recorder, len)))
        for name, function in _OF_NUMBERS.items():
            stack.enter_context(patch.object(math, name, followed(function)))
        if numpy := sys.modules.get("numpy"):
            stack.enter_context(patch.object(numpy, "prod", _product(numpy.prod)))
            for name in _OF_NUMBERS.keys() & vars(numpy).keys():
                stack.enter_context(patch.object(numpy, name, followed(_OF_NUMBERS[name], getattr(numpy, name))))
        stack.callback(Distribution.set_default_validate_args, validated)
        Distribution.set_default_validate_args(False)
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(_chance_of_python(recorder))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(recorder)
        yield


_OF_NUMBERS = {name: getattr(math, name) for name in "sqrt cbrt isqrt exp exp2 expm1 log log2 log10 log1p hypot".split()}


@contextmanager
def _chance_of_python(recorder: Recorder) -> Iterator[None]:
    """Numbers that code draws without torch are not drawn again by a graph; the user's generators stay as they are."""
    numpy = sys.modules.get("numpy")
    state, array = random.getstate(), numpy.random.get_state() if numpy else None
    try:
        yield
        if random.getstate() != state or (numpy and not _same_state(numpy.random.get_state(), array)):
            recorder.writer.note(
                "forward draws numbers with Python or numpy: what they decided while it was recorded is decided for good",
                "a graph draws with torch's operators only",
                "forward",
            )
    finally:
        random.setstate(state)
        if numpy:
            numpy.random.set_state(array)


def _same_state(first: Any, second: Any) -> bool:
    """Of numpy's generator: a name, an array and numbers."""
    return bool((first[1] == second[1]).all() and first[2:] == second[2:])


def _length(recorder: Recorder, original: Any) -> Any:
    def length(sized: Any, /) -> Any:
        return recorder.length(sized) if isinstance(sized, torch.Tensor) and recorder.active else original(sized)

    return length


def _product(original: Any) -> Any:
    def prod(numbers: Any, *args: Any, **kwargs: Any) -> Any:
        traced = isinstance(numbers, (tuple, list)) and any(isinstance(number, SymbolicNumber) for number in numbers)
        return math.prod(numbers) if traced and not args and not kwargs else original(numbers, *args, **kwargs)

    return prod


def _script_call(recorder: Recorder) -> Any:
    def call(function: Any, *args: Any, **kwargs: Any) -> Any:
        return (
            recorder.opaque_call(OpaqueScriptFunction(function), args, kwargs)
            if recorder.active
            else script_call(function, *args, **kwargs)
        )

    return call


_NO_SETUP = torch.autograd.Function.setup_context


def _function_attribute(recorder: Recorder) -> Any:
    """``apply`` of a `torch.autograd.Function` is C++ and may be bound before the recording: it asks the class for its ``forward``.

    Only recomputing what it does not keep is no gradient of its own: a checkpoint runs its function.
    """

    def attribute(cls: Any, name: str) -> Any:
        found = type.__getattribute__(cls, name)
        if name not in ("forward", "setup_context") or not recorder.active or found is _NO_SETUP:
            return found
        if name == "setup_context":
            return lambda *_: None

        @functools.wraps(found)
        def forward(*args: Any) -> Any:
            given = args[1:] if isinstance(args[0], FunctionCtx) else args
            with recorder.outside():
                if cls is CheckpointFunction:
                    function, _, *rest = given
                    return recorder.aliased(function(*rest), rest)
                return recorder.aliased(recorder.opaque_call(OpaqueAutogradFunction(cls), given, {}), given)

        return forward

    return attribute


def _detached(recorder: Recorder, make: Any) -> Any:
    """A constructor of tensors that share another's data and none of its history."""

    def construct(cls: Any, data: Any = None, *args: Any, **kwargs: Any) -> Any:
        made = make(cls, *(() if data is None else (data,)), *args, **kwargs)
        if recorder.active and isinstance(data, torch.Tensor):
            recorder.detached(made, data)
        return made

    return construct


def _autocast(recorder: Recorder, enter: Any) -> Any:
    def entered(region: Any) -> Any:
        if recorder.active and region._enabled:
            recorder.writer.note(
                f"autocast to {region.fast_dtype} is not recorded",
                "a graph computes in the dtypes of its tensors; call the packed network under torch.autocast as a whole",
            )
        return enter(region)

    return entered
