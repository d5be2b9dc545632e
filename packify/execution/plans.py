"""What strategies have made of a network's graphs: kept with the network, made again when the graphs change, never saved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, fx

from packify.execution.cuda import CapturedPasses
from packify.execution.in_turn import MemberGraph
from packify.execution.wholeness import Wholeness
from packify.nn.code import written
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
        self._rewritten: dict[tuple[str, int], Callable[..., tuple[Any, ...]] | None] = {}

    def release(self) -> None:
        """Let go of views of tensors that the network holds no longer."""
        for graph in self._members.values():
            graph.tensors.release()

    def member_graph(self, network: PackedNetwork, mode: str = "") -> MemberGraph:
        """The member's graph of a mode, by default of the network's."""
        mode = mode or ("train" if network.training else "eval")
        graph = network.member_template.graphs[mode]
        if id(graph) not in self._members:
            self._members[id(graph)] = MemberGraph(network, mode)
        return self._members[id(graph)]

    def rewritten(
        self, network: PackedNetwork, name: str, graph: fx.Graph, rewrite: Rewrite | None
    ) -> Callable[..., tuple[Any, ...]] | None:
        """A packed graph with other kernels, as a function of the module tree and the inputs; None where nothing would change."""
        key = (name, id(graph))
        if key not in self._rewritten:
            made = None if rewrite is None else rewrite(graph, network.num_estimators)
            self._rewritten[key] = None if made is None else _function(made)
        return self._rewritten[key]


def _function(graph: fx.Graph) -> Callable[..., tuple[Any, ...]]:
    code = written(graph)
    namespace: dict[str, Any] = dict(code.globals)
    exec(compile(code.src, "<packify packed graph>", "exec"), namespace)  # noqa: S102  torch.fx wrote it from the graph
    function: Callable[..., tuple[Any, ...]] = namespace["forward"]
    return function


def batch_of(inputs: Sequence[Tensor]) -> int:
    """The number of samples: the size of the first axis of the first input."""
    return next((int(one.shape[0]) for one in inputs if one.dim()), 1)
