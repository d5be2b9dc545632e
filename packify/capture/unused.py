"""What nothing reads: nodes of a graph, and tensors of a network, which cannot be trained and which a packed network has no use for."""

from __future__ import annotations

from collections.abc import Iterable

from torch import fx, nn

from packify.nn.tree import is_constant
from packify.nn.writes import store


def drop_unused(graph: fx.Graph) -> None:
    """Take out what nothing reads and what changes nothing: of a graph of values, all but what buffers are given."""
    for node in reversed(list(graph.nodes)):
        writes = node.target is store or (node.meta.get("inplace") and "out_of_place" not in node.meta)
        if not node.users and node.op not in ("placeholder", "output", "call_module") and not writes:
            graph.erase_node(node)


def unused_tensors(root: nn.Module, graphs: Iterable[fx.Graph]) -> frozenset[str]:
    """The names of parameters that neither mode reads, and of the buffers of a layer (a module without parts) that has no others.

    A module that a graph calls reads all it holds. A tied parameter is read under each of its names.
    """
    read: set[int] = set()
    for graph in graphs:
        for node in graph.nodes:
            if node.op == "get_attr" and not is_constant(str(node.target)):
                read.add(id(_attribute(root, str(node.target))))
            elif node.op == "call_module":
                module = root.get_submodule(str(node.target))
                read |= {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
    unused: set[str] = set()
    for path, module in root.named_modules(remove_duplicate=False):
        prefix = f"{path}." if path else ""
        own = {name: tensor for name, tensor in module._parameters.items() if tensor is not None}
        left = {prefix + name for name, tensor in own.items() if id(tensor) not in read}
        if left and len(left) == len(own) and not module._modules:
            left |= {prefix + name for name, tensor in module._buffers.items() if tensor is not None and id(tensor) not in read}
        unused |= left
    return frozenset(unused)


def _attribute(root: nn.Module, name: str) -> object:
    path, _, attribute = name.rpartition(".")
    return getattr(root.get_submodule(path), attribute)
