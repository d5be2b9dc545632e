"""A class of its own for every network, with the reference's signature, so that `torch.compile` keeps networks apart."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping
from types import EllipsisType, FunctionType
from typing import Any
from unittest.mock import patch

from torch import fx, nn

from packify.nn.block import Form, functions_from, source_of
from packify.nn.printing import attribute

# What a user may hand to torch.compile: `packed`, which runs `forward`, or `packed.members`.
_ENTRIES = ("forward", "members")
_GRAPHS = {"shared": "_graph", "independent": "_graph_independent"}
_numbers = itertools.count()


def written(graph: fx.Graph) -> Any:
    """A graph as Python code, also where a part of the network is called like a keyword, ``class`` or ``in``."""
    with patch.object(fx.graph, "_format_target", _reached):
        return graph.python_code("self")


def function_of(graph: fx.Graph, file: str) -> Callable[..., Any]:
    """A graph as a function of the module tree that it runs on and of its inputs; tracebacks name `file`."""
    code = written(graph)
    namespace: dict[str, Any] = dict(code.globals)
    exec(compile(code.src, file, "exec"), namespace)  # noqa: S102  torch.fx wrote it from the graph
    function: Callable[..., Any] = namespace["forward"]
    return function


def _reached(base: str, target: str) -> str:
    for name in target.split("."):
        base = attribute(base, name)
    return base


def give_own_class(network: nn.Module, forms: Mapping[str, Form], signature: inspect.Signature) -> None:
    """Give `network` a new subclass of its class: it runs `forms`, by the kind of inputs; its methods have the reference's `signature`.

    `torch.compile` keeps what it has compiled by code object, at most eight versions of each (`torch._dynamo.config.recompile_limit`),
    so networks that shared one `forward` would push each other out. Networks that run the same functions share their class.
    """
    if type(network) is not (own_class(network) or type(network)):
        return  # a wrapper such as fully_shard has put a class of its own in front
    base, number = shared_class(network), next(_numbers)
    methods: dict[str, Any] = {}
    sources = []
    for kind, form in forms.items():
        source, names = source_of((form,), hidden_behind(base), _GRAPHS[kind])
        methods |= functions_from(source, names, f"{base.__name__} {number}")
        sources.append(source)
    for name in _ENTRIES:
        if hasattr(base, name):
            methods[name] = _entry(name, getattr(base, name), signature, f"{base.__name__} {number}")
    own = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__, _SHARED: base}
    own["source"] = "\n".join(sources)
    network.__class__ = type(base.__name__, (base,), {**own, **methods})


def hidden_behind(base: type[nn.Module]) -> Callable[[str], bool]:
    """Whether a child or tensor of that name is hidden behind an attribute of the network itself."""
    declared = {name for kind in base.__mro__ for name in vars(kind).get("__annotations__", ())}
    return lambda name: hasattr(base, name) or name in declared


def own_class(network: nn.Module) -> type[nn.Module] | None:
    """The class that `give_own_class` gave, also behind classes that wrappers put in front of it."""
    return next((kind for kind in type(network).__mro__ if _SHARED in vars(kind)), None)


def shared_class(network: nn.Module) -> type[nn.Module]:
    """The class that the network's code is written in: the one that a pickle names."""
    own = own_class(network)
    shared: type[nn.Module] = type(network) if own is None else vars(own)[_SHARED]
    return shared


_SHARED = "_packify_shared_class"


# -- the reference's signature ---------------------------------------------------------------------------------------


def _entry(name: str, method: FunctionType, signature: inspect.Signature, kind: str) -> FunctionType:
    """A method called `name` that takes what the reference's ``forward`` takes and hands on what it is given to `method`."""
    parameters = list(signature.parameters.values())
    source = f"def {name}({', '.join(['self', *_declared(parameters)])}):\n    return entry(self{_handed_on(parameters)})\n"
    made = functions_from(source, {"entry": method, "given": given, "leading": leading}, f"{kind} {name}")[name]
    first = parameters[:1] and parameters[0].kind is inspect.Parameter.POSITIONAL_ONLY
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY if first else inspect.Parameter.POSITIONAL_OR_KEYWORD)
    made.__signature__ = signature.replace(parameters=[own, *parameters])  # type: ignore[attr-defined]
    made.__annotations__ = {one.name: one.annotation for one in parameters if one.annotation is not one.empty}
    if signature.return_annotation is not signature.empty:
        made.__annotations__["return"] = signature.return_annotation
    made.__doc__ = method.__doc__
    return made


def _declared(parameters: list[inspect.Parameter]) -> Iterable[str]:
    """The parameters as a function declares them; what may be left out is ``...`` then, which is no argument of any network."""
    kinds = [parameter.kind for parameter in parameters]
    for index, parameter in enumerate(parameters):
        stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**" if parameter.kind is parameter.VAR_KEYWORD else ""
        if parameter.kind is parameter.KEYWORD_ONLY and not {parameter.VAR_POSITIONAL, parameter.KEYWORD_ONLY} & set(kinds[:index]):
            yield "*"
        yield f"{stars}{parameter.name}{'' if parameter.default is parameter.empty else '=...'}"
        if parameter.kind is parameter.POSITIONAL_ONLY and kinds[index + 1 : index + 2] != [parameter.POSITIONAL_ONLY]:
            yield "/"


def _handed_on(parameters: list[inspect.Parameter]) -> str:
    """The arguments of the call that hands on what was given: ``, x, *rest, **given(mask=mask)``."""
    gathers = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
    positional, optional, by_name, text = [], [], [], ""
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            text += f", *{parameter.name}"
        elif parameter.kind is parameter.VAR_KEYWORD:
            by_name.append(f"**{parameter.name}")
        elif parameter.kind is parameter.KEYWORD_ONLY:
            by_name.append(f"**given({parameter.name}={parameter.name})")
        elif parameter.default is parameter.empty:
            positional.append(parameter.name)
        elif gathers or parameter.kind is parameter.POSITIONAL_ONLY:
            optional.append(parameter.name)
        else:
            by_name.append(f"**given({parameter.name}={parameter.name})")
    leading_text = f", *leading({', '.join(optional)})" if optional else ""
    return "".join(f", {name}" for name in positional) + leading_text + text + "".join(f", {item}" for item in by_name)


def given(**arguments: Any) -> dict[str, Any]:
    """The arguments that were not left out."""
    return {name: value for name, value in arguments.items() if not isinstance(value, EllipsisType)}


def leading(*arguments: Any) -> list[Any]:
    """The arguments before the first that was left out."""
    return list(itertools.takewhile(lambda value: not isinstance(value, EllipsisType), arguments))
