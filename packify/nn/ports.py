"""What goes in and out of a module of a packed network or of a member: its ports, as it is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from packify.core import nested
from packify.nn.layouts import Layout


@dataclass(frozen=True)
class Ports:
    """What goes in and out of a module in one kind of call.

    Attributes:
        args, kwargs: the arguments, with layouts in place of tensors; None stands for other values of a graph.
        result: what it returns, likewise.
        members: M; 1 in a member alone.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    result: Any
    members: int = 1

    @property
    def inputs(self) -> tuple[Layout, ...]:
        """The layouts of the tensors among the arguments, in order."""
        return _layouts((self.args, dict(self.kwargs)))

    @property
    def outputs(self) -> tuple[Layout, ...]:
        """The layouts of the tensors that it returns, in order."""
        return _layouts(self.result)

    def __deepcopy__(self, memo: dict[int, Any]) -> Ports:
        """Nothing changes it."""
        return self

    def __str__(self) -> str:
        """``"b (m c) h w -> b (m c) h w"``."""
        inputs, outputs = (", ".join(layout.pattern for layout in part) for part in (self.inputs, self.outputs))
        return f"{inputs} -> {outputs}" if inputs and outputs else ""


def _layouts(value: Any) -> tuple[Layout, ...]:
    return tuple(leaf for leaf in nested.leaves(value) if isinstance(leaf, Layout))


PORTS = "_packify_ports"
"""Where a module of a packed network or of a member keeps its `Ports`."""


def ports_of(module: nn.Module) -> tuple[Ports, ...]:
    """What goes in and out of a module of a packed network or of a member, by kind of call; nothing for one that is never called."""
    found: tuple[Ports, ...] = vars(module).get(PORTS, ())
    return found


def tree_text(module: nn.Module) -> str:
    """A module and its parts as torch prints them, each with its layouts: ``ReLU(inplace=True, b (m c) h w -> b (m c) h w)``."""
    own = module.extra_repr()
    layouts = [text for text in dict.fromkeys(map(str, ports_of(module))) if text and text not in own]
    head = ", ".join(filter(None, (own, *layouts)))
    texts = {name: "None" if child is None else tree_text(child) for name, child in module._modules.items()}
    if not texts:
        return f"{module._get_name()}({head})"
    lines = [*filter(None, (head,)), *(f"({name}): {text}" for name, text in texts.items())]
    inner = "\n".join(lines).replace("\n", "\n  ")
    return f"{module._get_name()}(\n  {inner}\n)"
