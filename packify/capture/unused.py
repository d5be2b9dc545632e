"""Tensors that no graph of a recording reads: they cannot be trained, and a packed network has no use for them."""

from __future__ import annotations

from collections.abc import Iterable

from torch import fx, nn


def unused_tensors(root: nn.Module, graphs: Iterable[fx.Graph]) -> frozenset[str]:
    """The names of parameters that neither mode reads, and of the buffers of modules that have no other parameters.

    A module that a graph calls reads all it holds. A tied parameter is read under each of its names.
    """
    read: set[int] = set()
    for graph in graphs:
        for node in graph.nodes:
            if node.op == "get_attr" and not str(node.target).startswith("_constant_"):
                read.add(id(_attribute(root, str(node.target))))
            elif node.op == "call_module":
                module = root.get_submodule(str(node.target))
                read |= {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
    unused: set[str] = set()
    for path, module in root.named_modules(remove_duplicate=False):
        prefix = f"{path}." if path else ""
        own = {name: tensor for name, tensor in module._parameters.items() if tensor is not None}
        left = {prefix + name for name, tensor in own.items() if id(tensor) not in read}
        if left and len(left) == len(own):
            left |= {prefix + name for name, tensor in module._buffers.items() if tensor is not None and id(tensor) not in read}
        unused |= left
    return frozenset(unused)


def _attribute(root: nn.Module, name: str) -> object:
    path, _, attribute = name.rpartition(".")
    return getattr(root.get_submodule(path), attribute)
