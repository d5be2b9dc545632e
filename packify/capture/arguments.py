"""Example inputs as the arguments of ``forward``."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from packify.core.errors import SpecError, TraceError


def with_concrete_args(model: nn.Module, example_inputs: Any, concrete_args: Mapping[str, Any] | None) -> Any:
    """`example_inputs` with arguments of ``forward`` that have one value for good, as a dict where there are any.

    Raises:
        TraceError: ``forward`` has no such argument, or the example gives it too.
    """
    if not concrete_args:
        return example_inputs
    signature = inspect.signature(model.forward)
    if not isinstance(example_inputs, (dict, tuple)):
        example_inputs = (example_inputs,)
    try:
        given = example_inputs if isinstance(example_inputs, dict) else dict(signature.bind_partial(*example_inputs).arguments)
        both = sorted(given.keys() & concrete_args.keys())
        if both:
            raise TypeError(f"{', '.join(both)} in example_inputs too")
        arguments = {**given, **concrete_args}
        signature.bind(**arguments)
    except TypeError as error:
        raise TraceError(
            f"concrete_args={dict(concrete_args)!r}",
            found=str(error),
            why=f"forward takes {signature}, each argument once and by its name",
            fix="pass every argument of forward either in example_inputs or in concrete_args",
        ) from error
    return arguments


def bind(signature: inspect.Signature, example_inputs: Any) -> dict[str, Any]:
    """`example_inputs` as ``forward``'s arguments by name."""
    try:
        if isinstance(example_inputs, dict):
            bound = signature.bind(**example_inputs)
        elif isinstance(example_inputs, tuple):
            bound = signature.bind(*example_inputs)
        else:
            bound = signature.bind(example_inputs)
    except TypeError as error:
        raise TraceError(
            "example_inputs",
            found=str(error),
            why=f"forward takes {signature}",
            fix="pass a tensor for its first argument, a tuple of positional ones, or a dict by name such as {'x': tensor}",
        ) from error
    return dict(bound.arguments)


def module_types(leaves: Any) -> tuple[type[nn.Module], ...]:
    """The types of modules to keep whole: one, or several.

    Raises:
        SpecError: they are no module types.
    """
    kinds = (leaves,) if isinstance(leaves, type) else tuple(leaves) if isinstance(leaves, Iterable) else (None,)
    if not all(isinstance(kind, type) and issubclass(kind, nn.Module) for kind in kinds):
        raise SpecError("leaves", found=repr(leaves)[:200], why="types of modules are kept whole", fix="pass leaves=[type(model.part)]")
    return kinds
