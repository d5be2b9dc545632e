"""Graphs as Python functions, and a class of its own for every network, so that `torch.compile` keeps networks apart."""

from __future__ import annotations

import itertools
import keyword
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any
from unittest.mock import patch

from torch import fx, nn

# What a user may hand to torch.compile: `packed`, which runs `forward`, or `packed.members`.
_ENTRIES = ("forward", "members")
_numbers = itertools.count()


def written(graph: fx.Graph) -> Any:
    """A graph as Python code, also where a part of the network is called like a keyword, ``class`` or ``in``."""
    with patch.object(fx.graph, "_format_target", _reached):
        return graph.python_code("self")


def _reached(base: str, target: str) -> str:
    for name in target.split("."):
        base = f"{base}.{name}" if name.isidentifier() and not keyword.iskeyword(name) else f"getattr({base}, {name!r})"
    return base


def functions_of(graphs: Mapping[str, fx.Graph]) -> dict[str, Callable[..., Any]]:
    """The function that runs each mode's graph; modes that share a graph share its function."""
    functions: dict[int, Callable[..., Any]] = {}
    for graph in graphs.values():
        if id(graph) not in functions:
            code = written(graph)
            namespace: dict[str, Any] = dict(code.globals)
            exec(compile(code.src, "<packify graph>", "exec"), namespace)  # noqa: S102  torch.fx wrote it from the graph
            functions[id(graph)] = namespace["forward"]
    return {mode: functions[id(graph)] for mode, graph in graphs.items()}


def give_own_class(network: nn.Module) -> None:
    """Give `network` a new subclass of its class, whose methods are the same code in code objects of their own.

    `torch.compile` keeps what it has compiled by code object, at most eight versions of each (`torch._dynamo.config.recompile_limit`),
    so networks that shared one `forward` would push each other out. Networks that run the same functions share their class.
    """
    if type(network) is not (own_class(network) or type(network)):
        return  # a wrapper such as fully_shard has put a class of its own in front
    base, number = shared_class(network), next(_numbers)
    methods = {name: _renamed(getattr(base, name), f"{name}_{number}") for name in _ENTRIES if hasattr(base, name)}
    names = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}
    network.__class__ = type(base.__name__, (base,), {**names, **methods, _SHARED: base})


def own_class(network: nn.Module) -> type[nn.Module] | None:
    """The class that `give_own_class` gave, also behind classes that wrappers put in front of it."""
    return next((kind for kind in type(network).__mro__ if _SHARED in vars(kind)), None)


def shared_class(network: nn.Module) -> type[nn.Module]:
    """The class that the network's code is written in: the one that a pickle names."""
    own = own_class(network)
    shared: type[nn.Module] = type(network) if own is None else vars(own)[_SHARED]
    return shared


_SHARED = "_packify_shared_class"


def _renamed(function: FunctionType, name: str) -> FunctionType:
    """The same function with a code object of its own; profiles of `torch.compile` go by the code's file, line and name."""
    code = function.__code__.replace(co_name=name)
    copied = FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
    copied.__kwdefaults__, copied.__doc__ = function.__kwdefaults__, function.__doc__
    copied.__annotations__, copied.__qualname__ = function.__annotations__, function.__qualname__
    return copied
