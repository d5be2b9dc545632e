"""Signatures of operators: from text, from Python, or from torch's schemas; which of a call's arguments has which name."""

from __future__ import annotations

import ast
import functools
import inspect
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

REQUIRED = inspect.Parameter.empty
"""The default of an argument that has none."""

# Spellings of one argument.
_SYNONYMS = (
    {"input", "self", "tensor", "x", "a", "x1", "indices", "data"},
    {"other", "b", "x2", "mat2", "tensor", "vec2", "vec"},
    {"mat1", "batch1", "mat"},
    {"mat2", "batch2", "vec"},
    {"index", "key", "other"},
    {"value", "c"},
    {"tensors", "operands", "matrices"},
    {"dim", "dims", "axis", "axes"},
    {"keepdim", "keepdims"},
    {"shape", "size", "sizes"},
    {"repeats", "dims", "size", "sizes"},
    {"dim0", "axis0"},
    {"dim1", "axis1"},
    {"training", "train"},
    {"pieces", "split_size", "split_size_or_sections", "split_sizes", "chunks", "sections", "indices", "tensor_indices_or_sections"},
)


@dataclass(frozen=True)
class Parameter:
    """One argument of an operator.

    Attributes:
        default: `REQUIRED` where there is none.
        kind: as `inspect.Parameter.kind`; a variadic one holds all further arguments, as a tuple or a dict.
        type: what torch's schema says, e.g. ``"List[int]"`` or ``"ScalarType"``; empty where nothing is said.
        sized: a list of this type may be given as one number.
    """

    name: str
    default: Any = REQUIRED
    kind: Any = inspect.Parameter.POSITIONAL_OR_KEYWORD
    type: str = ""
    sized: bool = False

    @property
    def variadic(self) -> bool:
        """It stands for any number of arguments."""
        return self.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, eq=False)
class Signature:
    """The arguments of an operator, in order; compared by identity.

    Attributes:
        parameters: positional ones before keyword-only ones.
        text: as it was declared.
    """

    parameters: tuple[Parameter, ...]
    text: str = ""

    def __deepcopy__(self, memo: Any) -> Signature:
        return self

    @functools.cached_property
    def names(self) -> dict[str, Parameter]:
        """The parameters by name."""
        return {parameter.name: parameter for parameter in self.parameters}

    @property
    def open(self) -> bool:
        """Its first argument has no name of its own, as in ``f(*tensors)``."""
        return bool(self.parameters) and self.parameters[0].variadic

    @functools.cached_property
    def _positional(self) -> list[Parameter]:
        kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        return [parameter for parameter in self.parameters if parameter.kind not in kinds]

    @functools.cached_property
    def _rest(self) -> Parameter | None:
        return next((parameter for parameter in self.parameters if parameter.kind is inspect.Parameter.VAR_POSITIONAL), None)

    @functools.cached_property
    def _keywords(self) -> Parameter | None:
        return next((parameter for parameter in self.parameters if parameter.kind is inspect.Parameter.VAR_KEYWORD), None)

    def __str__(self) -> str:
        return self.text or _written_out(self.parameters)

    def name_of(self, name: str) -> str:
        """The name that this signature has for an argument of that name, e.g. ``dim`` for ``axis``.

        Raises:
            TypeError: there is none.
        """
        if name in self.names:
            return name
        for group in _SYNONYMS:
            if name in group:
                found = [parameter.name for parameter in self.parameters if parameter.name in group]
                if len(found) == 1:
                    return found[0]
        if self._keywords is not None:
            return name
        raise TypeError(f"no argument {name!r} in ({self})")

    def given(self, args: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments that a call gives, by name; those of a variadic parameter in one tuple.

        Raises:
            TypeError: there are too many, or one of an unknown name, or one twice.
        """
        found = {parameter.name: value for parameter, value in zip(self._positional, args, strict=False)}
        if args[len(self._positional) :]:
            if self._rest is None:
                raise TypeError(f"{len(args)} arguments by position for ({self})")
            found[self._rest.name] = self._unwrapped(args[len(self._positional) :])
        for key, value in kwargs.items():
            name = self.name_of(key)
            if name in found:
                raise TypeError(f"argument {name!r} twice for ({self})")
            found[name] = value
        return found

    def _unwrapped(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """``(a, b)`` of the declared ``*tensors``, whether they come one by one or as one list."""
        one = values[0] if len(values) == 1 else None
        return tuple(one) if self.text and isinstance(one, (tuple, list)) else tuple(values)

    def read(self, args: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """All arguments of a call by name, in this signature's order.

        Raises:
            TypeError: the call does not fit.
        """
        found = self.defaults() | self.given(args, kwargs)
        return {name: found.pop(name) for name in self.names if name in found} | found

    def defaults(self) -> dict[str, Any]:
        """Every argument that need not be given."""
        found = {}
        for parameter in self.parameters:
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                found[parameter.name] = ()
            elif parameter.default is not REQUIRED:
                found[parameter.name] = parameter.default
        return {name: found[name] for name in self.names if name in found}

    def written(self, given: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """``args`` and ``kwargs`` of a call that gives these arguments: by position up to the last that is given, then by name."""
        rest: Any = given.get(self._rest.name, ()) if self._rest else ()
        last = max((index for index, parameter in enumerate(self._positional) if parameter.name in given), default=-1)
        taken = self._positional[: len(self._positional) if rest else last + 1]
        missing = [parameter for parameter in taken if parameter.name not in given and parameter.default is REQUIRED]
        if missing and not rest:  # by name what stands behind a gap
            taken = taken[: taken.index(missing[0])]
        args = tuple(given.get(parameter.name, parameter.default) for parameter in taken)
        used = {parameter.name for parameter in taken} | ({self._rest.name} if self._rest else set())
        return (*args, *rest), {name: value for name, value in given.items() if name not in used}

    def positional(self, found: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """All arguments in order, without names where they may come so; those of a declared ``*names`` in one tuple."""
        values = [found[parameter.name] for parameter in self._positional if parameter.name in found]
        if self._rest is not None:
            values += list(found.get(self._rest.name, ())) if self is OPEN or not self.text else [found.get(self._rest.name, ())]
        used = {parameter.name for parameter in self._positional} | ({self._rest.name} if self._rest else set())
        return values, {name: value for name, value in found.items() if name not in used}

    def gathered(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Positional arguments with sizes that come one by one, as in ``x.view(2, 3)``, in one list."""
        first = next((index for index, parameter in enumerate(self._positional) if "List[int]" in parameter.type), None)
        one_by_one = first is not None and first <= len(args) and all(map(_is_int, args[first:]))
        return (*args[:first], tuple(args[first:])) if one_by_one else args

    def fitted(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], strict: bool) -> dict[str, Any] | None:
        """The arguments that a call gives by name, if it fits this signature; None if it does not.

        Without `strict`, a number may stand for a list, and a tensor without axes for a number.
        """
        try:
            found = self.given(args, kwargs)
        except TypeError:
            return None
        required = all(p.name in found for p in self.parameters if p.default is REQUIRED and not p.variadic)
        fits = required and all(_fits(self.names[name], value, strict) for name, value in found.items() if name in self.names)
        return found if fits else None


def _is_int(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


_NUMBERS = (int, float, complex, numbers.Number)
_ENUMERATIONS: dict[str, Any] = {"ScalarType": (torch.dtype, type), "Layout": torch.layout, "MemoryFormat": torch.memory_format}


def _fits(parameter: Parameter, value: Any, strict: bool) -> bool:
    """Whether torch takes a value for a parameter of a schema."""
    kind = parameter.type
    if kind.startswith("Optional["):
        if value is None:
            return True
        kind = kind[len("Optional[") : -1]
    if not kind or (value is None and parameter.default is None):
        return True
    if kind.startswith("List["):
        inner = Parameter("", type=kind[len("List[") : -1])
        if isinstance(value, (tuple, list)):
            return all(_fits(inner, item, strict) for item in value)
        return (parameter.sized or not strict) and inner.type != "Tensor" and _fits(inner, value, strict)
    if isinstance(value, torch.Tensor):
        return kind == "Tensor" or (not strict and value.dim() == 0 and kind in ("int", "float", "number", "bool"))
    simple: dict[str, Any] = {"number": _NUMBERS, "float": _NUMBERS, "bool": bool, "str": str, "Device": (torch.device, str, int)}
    if kind == "int":
        return _is_int(value) or (not strict and isinstance(value, bool))
    if kind in _ENUMERATIONS:
        return isinstance(value, _ENUMERATIONS[kind]) or (not strict and _is_int(value))
    if kind == "Tensor":
        return not strict and isinstance(value, _NUMBERS)
    if kind in simple:
        return isinstance(value, simple[kind]) and not (kind == "number" and strict and isinstance(value, bool))
    return not strict


@functools.cache
def parsed(text: str) -> Signature:
    """A signature from its text, ``"input, weight, bias=None, *, groups=1"``; ``*names`` stands for any number, one by one or as one list.

    Raises:
        ValueError: it is no list of parameters.
    """
    try:
        (function,) = ast.parse(f"def f({text}): pass").body
        given = function.args  # type: ignore[attr-defined]
        values = [ast.literal_eval(value) if value is not None else REQUIRED for value in (*given.defaults, *given.kw_defaults)]
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{text!r} is no list of parameters") from error
    names = [argument.arg for argument in (*given.posonlyargs, *given.args)]
    defaults = [REQUIRED] * (len(names) - len(given.defaults)) + values[: len(given.defaults)]
    parameters = [Parameter(name, default) for name, default in zip(names, defaults, strict=True)]
    if given.vararg:
        parameters.append(Parameter(given.vararg.arg, REQUIRED, inspect.Parameter.VAR_POSITIONAL))
    only = zip(given.kwonlyargs, values[len(given.defaults) :], strict=True)
    parameters += [Parameter(argument.arg, default, inspect.Parameter.KEYWORD_ONLY) for argument, default in only]
    if given.kwarg:
        parameters.append(Parameter(given.kwarg.arg, REQUIRED, inspect.Parameter.VAR_KEYWORD))
    return Signature(tuple(parameters), text)


def python_signature(function: Callable[..., Any]) -> Signature | None:
    """The signature of a Python function; None where there is none, or none that names an argument."""
    try:
        given = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    return None if given and all(Parameter("", kind=parameter.kind).variadic for parameter in given) else _of(given)


def _of(given: list[inspect.Parameter]) -> Signature:
    names = {"self": "input"} | ({"a": "input", "b": "other"} if given and given[0].kind is inspect.Parameter.POSITIONAL_ONLY else {})
    taken = {parameter.name for parameter in given}
    return Signature(
        tuple(
            Parameter(
                new if (new := names.get(parameter.name, parameter.name)) not in taken else parameter.name,
                parameter.default,
                parameter.kind,
            )
            for parameter in given
        )
    )


def of_schema(schema: Any) -> Signature:
    """The signature that one overload of torch's has; torch's functions call ``self`` ``input``."""
    taken = {argument.name for argument in schema.arguments}
    parameters = []
    for argument in schema.arguments:
        name = "input" if argument.name == "self" and "input" not in taken else argument.name
        default = argument.default_value if argument.has_default_value() else REQUIRED
        kind = inspect.Parameter.KEYWORD_ONLY if argument.kwarg_only else inspect.Parameter.POSITIONAL_OR_KEYWORD
        default = tuple(default) if isinstance(default, list) else default
        parameters.append(Parameter(name, default, kind, str(argument.real_type), argument.N is not None))
    if {"pin_memory", "dtype"} <= taken:  # of torch's factories, which take it beside what their schemas say
        parameters.append(Parameter("requires_grad", False, inspect.Parameter.KEYWORD_ONLY))
    return Signature(tuple(parameters))


@functools.cache
def correspondence(own: Signature, row: Signature) -> dict[str, str]:
    """For each argument of a call's own signature that the operator's row has too, its name there."""
    found: dict[str, str] = {name: name for name in own.names if name in row.names}
    for name in own.names:
        if name in found:
            continue
        for group in _SYNONYMS:
            same = [other for other in row.names if other in group and other not in found.values()]
            if name in group and len(same) == 1:
                found[name] = same[0]
                break
    first, lead = next(iter(own.names), None), next(iter(row.names), None)
    if first is not None and lead is not None and first not in found and lead not in found.values():
        found[first] = lead
    return {name: found[name] for name in own.names if name in found}


def _written_out(parameters: tuple[Parameter, ...]) -> str:
    words: list[str] = []
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not any(word.startswith("*") for word in words):
            words.append("*")
        mark = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        words.append(mark + parameter.name + ("" if parameter.default is REQUIRED else f"={parameter.default!r}"))
    return ", ".join(words)


OPEN = parsed("*args, **kwargs")
"""Of a call whose arguments have no names."""
GETTER = parsed("input, name")
"""Of a read of an attribute, ``getattr(x, "T")``."""
