"""What strategies have made of a network's graphs: kept with the network, made again when the graphs change, never saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, fx

from packify.execution.cuda import CapturedPasses
from packify.execution.in_turn import MemberGraph
from packify.execution.mixing import mixed_function, parts_in_turn
from packify.execution.part_in_turn import PartInTurn
from packify.execution.wholeness import Wholeness
from packify.nn.code import function_of
from packify.nn.packed_network import PackedNetwork

Rewrite = Callable[[fx.Graph, int], fx.Graph | None]


class Plans:
    """Everything that is made once for a network.

    Args:
        network: whose graphs these are.
    """

    def __init__(self, network: PackedNetwork) -> None:
        self.whole = Wholeness(network)
        self.captured = CapturedPasses()
        self._members: dict[int, MemberGraph] = {}
        self._parts: dict[tuple[str, str], PartInTurn] = {}
        self._mixed: dict[Any, Callable[..., tuple[Any, ...]] | None] = {}
        self._rewritten: dict[tuple[str, int], Callable[..., tuple[Any, ...]] | None] = {}

    def release(self) -> None:
        """Let go of views of tensors that the network holds no longer."""
        for graph in self._members.values():
            graph.tensors.release()
        for part in self._parts.values():
            part.tensors.release()

    def member_graph(self, network: PackedNetwork, mode: str = "") -> MemberGraph:
        """The member's graph of a mode, by default of the network's."""
        mode = mode or ("train" if network.training else "eval")
        graph, _ = network.turn_form(mode)
        if id(graph) not in self._members:
            self._members[id(graph)] = MemberGraph(network, mode)
        return self._members[id(graph)]

    def mixed(
        self, network: PackedNetwork, base: str, parts: Mapping[str, str], inputs_are: str, mode: str = ""
    ) -> Callable[..., tuple[Any, ...]] | None:
        """A packed graph with parts in turn, as a function of the module tree and the inputs; None where no part is."""
        mode = mode or ("train" if network.training else "eval")
        key = (base, tuple(parts.items()), inputs_are, mode)
        if key not in self._mixed:
            in_turn = {path: self.part_in_turn(network, path, mode) for path in sorted(parts_in_turn(network, base, parts))}
            self._mixed[key] = mixed_function(network, inputs_are, mode, in_turn) if in_turn else None
        return self._mixed[key]

    def part_in_turn(self, network: PackedNetwork, path: str, mode: str) -> PartInTurn:
        """A part of the network, to be called once per member."""
        if (path, mode) not in self._parts:
            self._parts[path, mode] = PartInTurn(network, path, mode)
        return self._parts[path, mode]

    def rewritten(
        self, network: PackedNetwork, name: str, graph: fx.Graph, rewrite: Rewrite | None
    ) -> Callable[..., tuple[Any, ...]] | None:
        """A packed graph with other kernels, as a function of the module tree and the inputs; None where nothing would change."""
        key = (name, id(graph))
        if key not in self._rewritten:
            made = None if rewrite is None else rewrite(graph, network.num_estimators)
            self._rewritten[key] = None if made is None else function_of(made, "<packify packed graph>")
        return self._rewritten[key]


def batch_of(inputs: Sequence[Tensor]) -> int:
    """The number of samples: the size of the first axis of the first input."""
    return next((int(one.shape[0]) for one in inputs if one.dim()), 1)
