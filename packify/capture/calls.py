"""The calls of modules during a recording: which module, when, with which arguments, and what it returned."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from packify.core import nested


@dataclass(frozen=True)
class Ref:
    """A value of the recording, by the name of the node that computes or reads it."""

    name: str


@dataclass(frozen=True)
class Unwritten:
    """An argument or a result that no graph can hold."""


@dataclass(frozen=True)
class Made:
    """An object of a user's dataclass: its class, and its fields by name."""

    kind: type
    fields: Mapping[str, Any]


@dataclass
class ModuleCall:
    """One call of a module, as the code of the reference made it.

    Attributes:
        stack: the module calls that it was made in and itself, outermost first, each as ``(dotted name, number of the call)``.
        after: the name of the node that was written last before it.
        args, kwargs: the arguments; leaves are `Ref`, literals or `Unwritten`.
        names: the parameters of ``forward`` that the positional arguments go to.
        result: what it returned, likewise.
        last: the name of the node that was written last when it returned; the same where the module only passes on what it is given.
    """

    stack: tuple[tuple[str, int], ...]
    after: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    names: tuple[str, ...]
    result: Any = None
    last: str = ""

    @property
    def path(self) -> str:
        """The module's dotted name."""
        return self.stack[-1][0]


def described(value: Any, leaf: Callable[[Any], Any], make: Callable[[type, dict[str, Any]], Any] = Made) -> Any:
    """Arguments or results with ``leaf(item)`` for everything that is no container, and ``make(class, fields)`` for a dataclass."""

    def visit(item: Any) -> Any:
        if isinstance(item, Made):
            return make(item.kind, {name: described(field, leaf, make) for name, field in item.fields.items()})
        if dataclasses.is_dataclass(item) and not isinstance(item, (type, Ref, Unwritten)):
            fields = {field.name: getattr(item, field.name) for field in dataclasses.fields(item) if field.init}
            return make(type(item), {name: described(field, leaf, make) for name, field in fields.items()})
        return leaf(item)

    return nested.map_leaves(value, visit)


def refs(value: Any) -> Iterator[Ref]:
    """Every `Ref` in a described value, in order."""
    for leaf in nested.leaves(value):
        if isinstance(leaf, Made):
            yield from refs(dict(leaf.fields))
        elif isinstance(leaf, Ref):
            yield leaf


_LITERALS = (type(None), bool, int, float, complex, str, torch.dtype, torch.device)


def literal(value: Any) -> Any:
    """A value as code can write it, or `Unwritten`."""
    return value if type(value) in _LITERALS else Unwritten()


def parameter_names(module: nn.Module, args: tuple[Any, ...]) -> tuple[str, ...]:
    """The names of the parameters that positional arguments go to: ``("x", "mask")``, ``("inputs_0", "inputs_1")`` for ``*inputs``."""
    names: list[str] = []
    try:
        parameters = list(inspect.signature(type(module).forward).parameters.values())[1:]
    except (TypeError, ValueError):
        parameters = []
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}_{index}" for index in range(len(args) - len(names))]
        elif parameter.kind is not inspect.Parameter.VAR_KEYWORD and parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            names.append(parameter.name)
    names += [f"input_{index}" for index in range(len(names), len(args))]
    return tuple(names[: len(args)])


class Places:
    """Where the calls of a recording start and end in a graph that is made from its own, node by node.

    Args:
        calls: changed in place.
    """

    def __init__(self, calls: Iterable[ModuleCall]) -> None:
        self._names: dict[str, fx.Node] = {}
        self._starts: dict[str, list[ModuleCall]] = {}
        self._ends: dict[str, list[ModuleCall]] = {}
        for call in calls:
            self._starts.setdefault(call.after, []).append(call)
            self._ends.setdefault(call.last, []).append(call)

    def follow(self, node: fx.Node, new: fx.Graph, read: Callable[[fx.Node], fx.Node]) -> None:
        """Calls that start or end behind `node` do so behind what was made last in `new`; what is handed over has its value of now.

        Args:
            node: of the recording; those before it have been followed.
            new: the graph that is made.
            read: the node in `new` that has the value of one of the recording.
        """

        def value(leaf: Any) -> Any:
            held = self._names.get(leaf.name) if isinstance(leaf, Ref) else None
            return leaf if held is None else Ref(read(held).name)

        self._names[node.name] = node
        for call in self._starts.get(node.name, ()):
            call.args, call.kwargs = described((call.args, call.kwargs), value)
            call.after = next(iter(reversed(new.nodes))).name
        for call in self._ends.get(node.name, ()):
            call.result = described(call.result, value)
            call.last = next(iter(reversed(new.nodes))).name


def settle(calls: Iterable[ModuleCall], written: Iterable[str], graph: fx.Graph) -> None:
    """Let calls start and end at nodes that are still there, and hold no values that are gone.

    Args:
        calls: changed in place.
        written: the names of all nodes in the order in which they were written, those that are gone too.
        graph: what is left.
    """
    left = {node.name for node in graph.nodes}
    nearest, before = "", {"": ""}
    for name in written:
        nearest = name if name in left else nearest
        before[name] = nearest

    def present(leaf: Any) -> Any:
        return Unwritten() if isinstance(leaf, Ref) and leaf.name not in left else leaf

    for call in calls:
        call.after, call.last = before[call.after], before[call.last]
        call.args, call.kwargs, call.result = described((call.args, call.kwargs, call.result), present)
