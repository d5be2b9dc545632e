"""A part of a packed network in turn: the graph of one member's block or layer, called once per member on its share of what goes in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from packify.core import nested
from packify.execution.lifting import lift
from packify.execution.member_tensors import MemberTensors
from packify.nn.block import forms_of
from packify.nn.flattening import flat_again
from packify.nn.layouts import Layout
from packify.nn.members import FRONT, split_members
from packify.nn.packed_network import PackedNetwork
from packify.nn.ports import Ports, ports_of
from packify.nn.wrappers import part_of


def reason_against_turns(network: PackedNetwork, path: str) -> str:
    """Why a part of a packed network cannot be run in turn; empty where it can."""
    part, own = part_of(network.body, path), part_of(network.member_template.body, path)
    theirs, mine = ports_of(part), ports_of(own)
    if not theirs or not mine:
        return "forward never calls it: it only holds other parts"
    if not forms_of(own):
        return "it has no graph: its own code runs, of a norm or of a module that was kept whole"
    if len(theirs) > 1 or len(forms_of(own)) > 1:
        return "it is called in several ways, with members in different places"
    if _skeleton(theirs[0]) != _skeleton(mine[0]):
        return "its graph is cut at another place than a member's"
    if not any(layout.axis is not None for layout in theirs[0].outputs):
        return "what it returns is the same for all members"
    if not all(_is_plain(leaf) for leaf in _returned(_flat_graph(own, "eval"))):
        return "it returns an object of a class of its own"
    return ""


class PartInTurn:
    """Calls the graph of a member's part once per member, on views; takes and returns what the packed part does.

    Args:
        network: the packed network.
        path: of the part, which can be run in turn.
        mode: ``"eval"`` or ``"train"``.
    """

    def __init__(self, network: PackedNetwork, path: str, mode: str) -> None:
        self.__name__ = f"{path.replace('.', '_')}_in_turn"
        self.members, self.body = network.num_estimators, part_of(network.body, path)
        own = part_of(network.member_template.body, path)
        self.ports, graph = ports_of(self.body)[0], _flat_graph(own, mode)
        self.inputs = [str(node.target) for node in graph.find_nodes(op="placeholder")]
        self.written = _written_inputs(own, graph, ports_of(own)[0])
        self.lifted = lift(graph, self.body, own)
        self.tensors = MemberTensors(self.lifted.slots, self.body, self.members)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        by_name = self.inputs[len(args) :]
        layouts = (*self.ports.args, *(self.ports.kwargs[name] for name in by_name))
        given = [
            self._shares(value, layout, name in self.written)
            for name, value, layout in zip(self.inputs, (*args, *(kwargs[name] for name in by_name)), layouts, strict=True)
        ]
        results: list[Any] = [
            self.lifted.function(self.body, *(shares[member] for shares in given), *tensors)
            for member, tensors in enumerate(self.tensors.views())
        ]
        if isinstance(results[0], Tensor):
            return _joined(results, self.ports.result)
        leaves = zip(*map(nested.leaves, results), strict=True)
        joined = [_joined(own, layout) for own, layout in zip(leaves, nested.leaves(self.ports.result), strict=True)]
        return _filled(results[0], joined)

    def _shares(self, value: Any, layouts: Any, written: bool) -> Sequence[Any]:
        """By member, its share of one argument; of one that its graph writes to, a copy."""
        if isinstance(value, Tensor):
            return self._shares_of_tensor(value, layouts, written)
        shares = [self._shares_of_tensor(*pair, written) for pair in zip(nested.leaves(value), nested.leaves(layouts), strict=True)]
        return [_filled(value, [share[member] for share in shares]) for member in range(self.members)]

    def _shares_of_tensor(self, value: Any, layout: Any, written: bool) -> Sequence[Any]:
        if not isinstance(value, Tensor) or not isinstance(layout, Layout):
            return [value] * self.members
        own: Sequence[Tensor] = [value] * self.members
        if layout.axis is not None:
            own = split_members(value, layout.axis, self.members).unbind(0)
        return [share.clone() for share in own] if written else own


def _filled(like: Any, leaves: Sequence[Any]) -> Any:
    """A nested value like another with these leaves."""
    left = iter(leaves)
    return nested.map_leaves(like, lambda _: next(left))


def _joined(leaves: Sequence[Any], layout: Any) -> Any:
    """The members' values of one result as the packed part returns it."""
    if not isinstance(layout, Layout) or layout.axis is None:
        return leaves[0]
    return torch.stack(list(leaves)) if layout.axis == FRONT else torch.cat(list(leaves), layout.axis)


def _flat_graph(own: nn.Module, mode: str) -> fx.Graph:
    """All that a member's part computes, with names relative to it."""
    parts = {name: forms_of(module) for name, module in own.named_modules(remove_duplicate=False) if name and forms_of(module)}
    return flat_again(forms_of(own)[0], parts, mode)


def _returned(graph: fx.Graph) -> Iterator[Any]:
    return nested.leaves(next(iter(graph.find_nodes(op="output"))).args[0])


def _is_plain(leaf: Any) -> bool:
    return leaf is None or isinstance(leaf, (fx.Node, int, float, str))


def _skeleton(ports: Ports) -> str:
    """Where tensors are among arguments and results, whatever their layouts."""
    parts = (ports.args, dict(ports.kwargs), ports.result)
    return str(nested.map_leaves(parts, lambda leaf: (leaf.shape, leaf.dtype) if isinstance(leaf, Layout) else None))


def _written_inputs(own: nn.Module, graph: fx.Graph, ports: Ports) -> frozenset[str]:
    """The names of the inputs that a member's graph writes to: seen when it is run without data; all of them where it cannot be."""
    names = [str(node.target) for node in graph.find_nodes(op="placeholder")]
    values = dict(zip(names, ports.args, strict=False)) | dict(ports.kwargs)
    leaves = {name: list(nested.leaves(value)) for name, value in values.items()}
    if not all(isinstance(leaf, Layout) for own_leaves in leaves.values() for leaf in own_leaves):
        return frozenset(names)
    examples = {name: nested.map_leaves(value, _without_data) for name, value in values.items()}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            _Noting(own, graph=graph).run(*(examples[name] for name in names))
    except Exception:  # code that does not run without data
        return frozenset(names)
    return frozenset(name for name in names if any(tensor._version for tensor in nested.leaves(examples[name])))


class _Noting(fx.Interpreter):
    """Lets every node know the tensor that it computes."""

    def run_node(self, n: fx.Node) -> Any:
        n.meta["val"] = result = super().run_node(n)
        return result


def _without_data(layout: Layout) -> Tensor:
    return torch.empty(layout.shape, dtype=layout.dtype, device="meta")
