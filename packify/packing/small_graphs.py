"""The small graph of one call of a module: its own nodes and the calls it makes, with names relative to the module."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from packify.capture.calls import Made, ModuleCall, Ref, Unwritten, described
from packify.nn.layouts import Layout
from packify.nn.ports import Ports
from packify.nn.printing import parameter_name
from packify.packing.frames import Frame, Frames
from packify.packing.ports import SettledPorts, asks_for_own

FORM = "form"
"""The keyword by which a call says which of a module's forms it runs."""


@dataclass(frozen=True)
class SmallGraph:
    """The graph of one call, with layouts in place of tensors: its `inputs` by parameter, and the call as the code around it makes it."""

    graph: fx.Graph
    inputs: dict[str, Any]
    call: Ports


@dataclass(frozen=True)
class _Parameters:
    """How a call hands over its arguments: `names` of what its record says, and of what it needs besides."""

    positional: list[tuple[str, Any]]
    keyword: list[tuple[str, str, Any]]
    needs: dict[fx.Node, str]


def small_graph(frames: Frames, ports: SettledPorts, frame: Frame) -> SmallGraph:
    """The graph of one call; which forms the calls that it makes run is known."""
    return _Writer(frames, ports, frame).write()


class _Writer:
    def __init__(self, frames: Frames, ports: SettledPorts, frame: Frame) -> None:
        self.frames, self.ports, self.frame = frames, ports, frame
        self.graph = fx.Graph()
        self.env: dict[fx.Node, fx.Node] = {}
        self.repeated: list[fx.Node] = []
        self.inputs: dict[str, Any] = {}

    def write(self) -> SmallGraph:
        if self.frame.parent is None:
            for node in self.frames.graph.find_nodes(op="placeholder"):
                self.env[node] = self._placeholder(parameter_name(str(node.target), self.inputs), layout_of(node))
        else:
            self._take_arguments()
        for item in self.frame.items:
            if isinstance(item, Frame):
                self._call(item)
            else:
                self.env[item] = self._own_code(item) if self.frame.whole else self._copy(item)
        output = self._output()
        for node in reversed(self.repeated):
            if not node.users:
                self.graph.erase_node(node)
        return SmallGraph(self.graph, self.inputs, self._ports(output))

    def _ports(self, output: Any) -> Ports:
        if self.frame.parent is None:
            return Ports((), self.inputs, output)
        parameters = self._parameters(self.frame)
        by_name = (*(name for name, _, _ in parameters.keyword), *parameters.needs.values())
        kwargs = {name: self.inputs[name] for name in by_name}
        return Ports(tuple(self.inputs[name] for name, _ in parameters.positional), kwargs, output)

    # -- what goes in ------------------------------------------------------------------------------------------------

    def _placeholder(self, name: str, layout: Any) -> fx.Node:
        self.inputs[name] = layout
        return self.graph.placeholder(name)

    def _take_arguments(self) -> None:
        parameters = self._parameters(self.frame)
        named = (*parameters.positional, *((name, value) for name, _, value in parameters.keyword))
        given = [(self._placeholder(name, self._layouts(value)), value) for name, value in named]
        for local, value in sorted(given, key=lambda one: isinstance(one[1], (Ref, fx.Node))):  # last, so not read out of a list
            self._bind(local, value)
        for value, name in parameters.needs.items():
            self.env[value] = self._placeholder(name, layout_of(value))

    def _parameters(self, frame: Frame) -> _Parameters:
        """The parameters of a call's function: those of the reference's ``forward`` that are given, then what else it needs."""
        taken: list[str] = []

        def named(wanted: str) -> str:
            taken.append(parameter_name(wanted, taken))
            return taken[-1]

        call = _call_of(frame)
        positional = [(named(name), value) for name, value in zip(call.names, call.args, strict=True)]
        keyword = [(named(name), name, value) for name, value in call.kwargs.items() if not isinstance(value, Unwritten)]
        return _Parameters(positional, keyword, {value: named(_port_name(value)) for value in frame.needs})

    def _bind(self, local: fx.Node, value: Any) -> None:
        """What a local value holds: the values inside a structure are taken out of it."""
        if isinstance(value, Ref):
            if value.name in self.frames.values:
                self.env[self.frames.values[value.name]] = local
            return
        if isinstance(value, fx.Node):
            self.env[value] = local
            return
        for function, key, item in _elements(value):
            if any(True for _ in _values_in(item)):
                self._bind(self._repeat(self.graph.call_function(function, (local, key))), item)

    # -- what is computed --------------------------------------------------------------------------------------------

    def _copy(self, node: fx.Node) -> fx.Node:
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self._lookup)
        made = self.graph.create_node(node.op, node.target, args, kwargs, name=_short_name(node))
        made.meta["op"] = node.meta.get("op")  # a node that a user put there has none
        return made

    def _own_code(self, node: fx.Node) -> fx.Node:
        """The module itself, once per member; where it is called as it is, that call."""
        once = node.op == "call_module"
        args, kwargs = fx.node.map_arg((node.args if once else node.args[1:], node.kwargs), self._lookup)
        function: Any = operator.call if once else node.target
        return self.graph.call_function(function, (self.graph.get_attr(""), *args), kwargs)

    def _lookup(self, value: fx.Node) -> fx.Node:
        if value not in self.env:
            self.env[value] = self._repeat(self._again(value))
        return self.env[value]

    def _again(self, value: fx.Node) -> fx.Node:
        """An attribute or a number, computed again here."""
        if value.op == "get_attr":
            name = self.ports.own.tensor(self.frame.path, str(value.target))
            return self.graph.get_attr(str(name))
        if asks_for_own(value) and self.frame.parent is not None:
            name = self.ports.own.tensor_like(self.frame.path, value)
            given = self.ports.argument_like(self.frame, value) if name is None else None
            like = self._repeat(self.graph.get_attr(str(name))) if given is None else self._lookup(given)
            return self.graph.call_function(getattr, (like, value.args[1]))
        return self._copy(value)

    def _repeat(self, node: fx.Node) -> fx.Node:
        node.meta["repeatable"] = True
        self.repeated.append(node)
        return node

    # -- calls -------------------------------------------------------------------------------------------------------

    def _call(self, inner: Frame) -> None:
        parameters, call = self._parameters(inner), _call_of(inner)
        args = tuple(self._written(value) for _, value in parameters.positional)
        kwargs = {name: self._written(value) for name, _, value in parameters.keyword}
        kwargs |= {name: self._lookup(value) for value, name in parameters.needs.items()}
        if inner.form:
            kwargs[FORM] = inner.form
        made = self.graph.call_module(str(self.ports.own.module(self.frame.path, inner.path)), args, kwargs)
        if inner.gives:
            for position, value in enumerate(inner.gives, 1):
                self.env[value] = self._repeat(self.graph.call_function(operator.getitem, (made, position)))
            made = self._repeat(self.graph.call_function(operator.getitem, (made, 0)))
        self._bind(made, call.result)

    def _written(self, value: Any) -> Any:
        """Arguments or results as code writes them: values by their nodes, objects of a user's class made anew."""

        def leaf(item: Any) -> Any:
            if isinstance(item, Ref):
                return self._lookup(self.frames.values[item.name]) if item.name in self.frames.values else None
            if isinstance(item, fx.Node):
                return self._lookup(item)
            return None if isinstance(item, Unwritten) else item

        return described(value, leaf, lambda kind, fields: self.graph.call_function(kind, (), fields))

    # -- what comes out ----------------------------------------------------------------------------------------------

    def _output(self) -> Any:
        if self.frame.parent is None:
            (output,) = self.frames.graph.find_nodes(op="output")
            self.graph.output(fx.node.map_arg(output.args[0], self._lookup))
            return None
        result = _call_of(self.frame).result
        structure = self._written(result)
        layouts = self._layouts(result)
        if self.frame.gives:
            structure = (structure, *map(self._lookup, self.frame.gives))
            layouts = (layouts, *map(layout_of, self.frame.gives))
        self.graph.output(structure)
        return layouts

    def _layouts(self, value: Any) -> Any:
        def leaf(item: Any) -> Any:
            node = self.frames.values.get(item.name) if isinstance(item, Ref) else item
            if isinstance(node, fx.Node):
                return layout_of(node)
            return None if isinstance(node, Unwritten) else node

        return described(value, leaf, lambda _, fields: fields)


def _call_of(frame: Frame) -> ModuleCall:
    """The record of a call; of a module's own code, with the nodes themselves in place of names."""
    call = frame.call
    if call is None:
        raise ValueError("the run of the network itself has no record")
    if not frame.whole:
        return call
    (node,) = (item for item in frame.items if isinstance(item, fx.Node))
    args = tuple(node.args) if node.op == "call_module" else tuple(node.args[1:])
    names = (*call.names, *(f"input_{index}" for index in range(len(args))))[: len(args)]
    return ModuleCall(call.stack, call.after, args, dict(node.kwargs), names, node)


def layout_of(value: fx.Node) -> Layout | None:
    """The layout of a value of a graph; None for what is no tensor. A member's tensors carry no members."""
    tensor = value.meta.get("val")
    return Layout(value.meta.get("axis"), tuple(tensor.shape), tensor.dtype) if isinstance(tensor, torch.Tensor) else None


def _port_name(value: fx.Node) -> str:
    """What a value that is passed in is called: like the parameter, or like the operator that makes it."""
    return str(value.target).rpartition(".")[2] if value.op == "get_attr" else str(value.meta.get("op") or value.name)


def _short_name(node: fx.Node) -> str | None:
    """``linear`` for what `packed_linear` computes, ``split`` for `split_members`: a name that no function in the code has."""
    name = str(getattr(node.target, "__name__", ""))
    if node.op != "call_function" or not str(getattr(node.target, "__module__", "")).startswith("packify."):
        return None
    return name.removeprefix("packed_").removesuffix("_members").strip("_") + ("" if "packed_" in name or "_members" in name else "_value")


def _elements(value: Any) -> Iterator[tuple[Callable[..., Any], Any, Any]]:
    """What a container holds, each with the function and the key that take it out."""
    if isinstance(value, Made):
        yield from ((getattr, name, item) for name, item in value.fields.items())
    elif isinstance(value, (tuple, list)):
        yield from ((operator.getitem, index, item) for index, item in enumerate(value))
    elif isinstance(value, dict):
        yield from ((operator.getitem, key, item) for key, item in value.items())
    elif isinstance(value, slice):
        yield from ((getattr, name, getattr(value, name)) for name in ("start", "stop", "step"))


def _values_in(value: Any) -> Iterator[Any]:
    if isinstance(value, (Ref, fx.Node)):
        yield value
    for _, _, item in _elements(value):
        yield from _values_in(item)
