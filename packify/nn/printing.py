"""A graph as the body of a Python function that a person can read.

conv1 = self.conv1(x)
bn1 = self.bn1(conv1)
add = bn1 + x
return torch.relu(add)
"""

from __future__ import annotations

import builtins
import keyword
import math
import operator
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx
from torch.nn import functional as F

_INFIX: dict[Any, str] = {
    operator.add: "+", operator.sub: "-", operator.mul: "*", operator.truediv: "/", operator.floordiv: "//", operator.mod: "%",
    operator.pow: "**", operator.matmul: "@", operator.eq: "==", operator.ne: "!=", operator.lt: "<", operator.le: "<=",
    operator.gt: ">", operator.ge: ">=", operator.and_: "&", operator.or_: "|", operator.xor: "^",
}  # fmt: skip
_SIMPLE = (type(None), bool, int, str)
# What the body may call itself: names of Python's own that code of a graph uses.
_RESERVED = frozenset(("self", "form", "torch", "F", "getattr", "slice", *keyword.kwlist))
_TAKEN = _RESERVED | frozenset(dir(builtins))
_NUMBER = re.compile(r"\d+(\.\d+)?")
_FREED = re.compile(r";  del [\w, ]+$")
_PART = re.compile(r"\bself\._modules\['([^']+)'\]")


@dataclass
class Names:
    """What some bodies call themselves: the objects they name, and their variables."""

    objects: dict[str, Any] = field(default_factory=lambda: {"torch": torch, "F": F})
    variables: set[str] = field(default_factory=set)


@dataclass
class Body:
    """The parameters and the lines of a function, without indentation."""

    parameters: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def body_of(graph: fx.Graph, names: Names, hidden: Callable[[str], bool]) -> Body:
    """The function that runs `graph`; a tensor is let go of where it is read last.

    Args:
        graph: its attributes and modules are those of ``self``.
        names: of other bodies in the same file; those of this one are added.
        hidden: whether a name of a child or a tensor means something else on the class of ``self``.
    """
    return _Printer(graph, names, hidden).run()


def as_shown(line: str) -> str:
    """A line as it is shown: parts by their names, and without what it lets go of.

    ``x = self._modules['conv1'](y);  del y`` is shown as ``x = self.conv1(y)``; what runs is a look-up in a dict, twenty times as fast.
    """
    return _PART.sub(lambda found: attribute("self", found[1]), _FREED.sub("", line))


class _Printer:
    def __init__(self, graph: fx.Graph, names: Names, hidden: Callable[[str], bool]) -> None:
        self.graph, self.names, self.hidden = graph, names, hidden
        self.body = Body()
        self.text: dict[fx.Node, str] = {}
        self.taken: set[str] = set()
        self.last = _last_readers(graph)

    def run(self) -> Body:
        for node in self.graph.nodes:
            if node.op == "placeholder":
                self.text[node] = str(node.target)
                self.taken.add(str(node.target))
                self.names.variables.add(str(node.target))
                self.body.parameters.append(str(node.target))
            elif node.op == "get_attr" and len(node.users) == 1:
                self.text[node] = self._reached(str(node.target))
            elif node.op == "output":
                self.body.lines.append(f"return {self._returned(node)}")
            else:
                self._statement(node)
        return self.body

    def _returned(self, output: fx.Node) -> str:
        """What is returned; a value that is computed for nothing else needs no name."""
        value = output.args[0]
        if isinstance(value, fx.Node) and value.next is output and len(value.users) == 1 and value.op.startswith("call"):
            self.body.lines.pop()
            return self._expression(value)
        return self._value(value)

    def _statement(self, node: fx.Node) -> None:
        made = self._expression(node)
        gone = [self.text[source] for source in self.last.get(node, ()) if self.text[source].isidentifier()]
        if not node.users:
            line = made
        else:
            self.text[node] = self._variable(node.name)
            line = f"{self.text[node]} = {made}"
        self.body.lines.append(f"{line};  del {', '.join(gone)}" if gone else line)

    def _variable(self, wanted: str) -> str:
        name = _free(wanted, lambda name: name in self.taken or name in self.names.objects)
        self.taken.add(name)
        self.names.variables.add(name)
        return name

    # -- expressions -------------------------------------------------------------------------------------------------

    def _expression(self, node: fx.Node) -> str:
        target: Any = node.target
        if node.op == "get_attr":
            return self._reached(str(target))
        if node.op == "call_module":
            return f"{self._reached(str(target), is_module=True)}({self._arguments(node.args, node.kwargs)})"
        if node.op == "call_method":
            return f"{self._operand(node.args[0])}.{target}({self._arguments(node.args[1:], node.kwargs)})"
        if target in _INFIX and len(node.args) == 2 and not node.kwargs:
            return f" {_INFIX[target]} ".join(map(self._operand, node.args))
        if target is operator.getitem and len(node.args) == 2:
            return f"{self._operand(node.args[0])}[{self._index(node.args[1])}]"
        if target is operator.neg and len(node.args) == 1:
            return f"-{self._operand(node.args[0])}"
        if target is getattr and len(node.args) == 2 and str(node.args[1]).isidentifier():
            return f"{self._operand(node.args[0])}.{node.args[1]}"
        return f"{self._function(target)}({self._arguments(node.args, node.kwargs)})"

    def _reached(self, target: str, *, is_module: bool = False) -> str:
        """``self._modules['layer1'].conv``, also where a part is called like a keyword or like something of the class."""
        base = "self"
        for name in target.split(".") if target else ():
            if self.hidden(name):
                base = f"{self._global(torch.nn.Module.__getattr__, 'held')}({base}, {name!r})"
            elif base == "self" and (is_module or name != target):
                base = f"self._modules[{name!r}]"
            else:
                base = attribute(base, name)
        return base

    def _arguments(self, args: Any, kwargs: Mapping[str, Any]) -> str:
        named = [f"{name}={self._value(value)}" for name, value in kwargs.items()]
        return ", ".join([*map(self._value, args), *named])

    def _operand(self, value: Any) -> str:
        text = self._value(value)
        return text if isinstance(value, fx.Node) or text.isidentifier() or _NUMBER.fullmatch(text) else f"({text})"

    def _index(self, index: Any) -> str:
        """What stands between brackets: ``:, 0``."""
        if isinstance(index, tuple) and index:
            return ", ".join(map(self._index_item, index)) + ("," if len(index) == 1 else "")
        return self._index_item(index)

    def _index_item(self, item: Any) -> str:
        if item is Ellipsis:
            return "..."
        if not isinstance(item, slice):
            return self._value(item)
        parts = ["" if part is None else self._value(part) for part in (item.start, item.stop, item.step)]
        return ":".join(parts if parts[2] else parts[:2])

    # -- values ------------------------------------------------------------------------------------------------------

    def _value(self, value: Any) -> str:
        if isinstance(value, fx.Node):
            return self.text[value]
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return f"{self._global(type(value), type(value).__name__)}({', '.join(map(self._value, value))})"
        if isinstance(value, tuple):
            return f"({', '.join(map(self._value, value))}{',' if len(value) == 1 else ''})"
        if isinstance(value, list):
            return f"[{', '.join(map(self._value, value))}]"
        if isinstance(value, dict):
            return "{" + ", ".join(f"{self._value(key)}: {self._value(item)}" for key, item in value.items()) + "}"
        if isinstance(value, slice):
            return f"slice({', '.join(self._value(part) for part in (value.start, value.stop, value.step))})"
        if type(value) in _SIMPLE or (type(value) is float and math.isfinite(value)):
            return repr(value)
        if isinstance(value, torch.dtype):
            return str(value)
        if isinstance(value, torch.device):
            return f"torch.device({str(value)!r})"
        return self._global(value, repr(value) if isinstance(value, float) else str(getattr(value, "__name__", type(value).__name__)))

    def _function(self, target: Any) -> str:
        name = str(getattr(target, "__name__", ""))
        if name and getattr(torch, name, None) is target:
            return f"torch.{name}"
        if name and getattr(F, name, None) is target:
            return f"F.{name}"
        return self._global(target, name or type(target).__name__)

    def _global(self, value: Any, wanted: str) -> str:
        """The name of an object that the code cannot write down."""
        known = next((name for name, held in self.names.objects.items() if held is value), None)
        if known is not None:
            return known
        name = _free(wanted, lambda name: name in self.names.variables or name in self.names.objects)
        self.names.objects[name] = value
        return name


def attribute(base: str, name: str) -> str:
    """``base.name`` in Python, also where a name is a keyword or none at all."""
    return f"{base}.{name}" if name.isidentifier() and not keyword.iskeyword(name) else f"getattr({base}, {name!r})"


def parameter_name(wanted: str, taken: Collection[str]) -> str:
    """A name like `wanted` that a parameter of a block's function may have, besides those `taken`."""
    name = re.sub(r"\W", "_", wanted) or "value"
    name = f"_{name}" if name[0].isdigit() else name
    while name in _RESERVED or name in taken:
        name += "_"
    return name


def _free(wanted: str, taken: Callable[[str], bool]) -> str:
    """An identifier like `wanted` that means nothing else."""
    name = re.sub(r"\W", "_", wanted).strip("_") or "value"
    name = f"_{name}" if name[0].isdigit() else name
    while name in _TAKEN or taken(name):
        name += "_"
    return name


def _last_readers(graph: fx.Graph) -> dict[fx.Node, list[fx.Node]]:
    """By node, the values that nobody reads after it."""
    last: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        for source in node.all_input_nodes:
            last[source] = node
    readers: dict[fx.Node, list[fx.Node]] = {}
    for source, reader in last.items():
        if reader.op != "output":
            readers.setdefault(reader, []).append(source)
    return readers
