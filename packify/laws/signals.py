"""The law of signal: a fresh member carries signals like a network that the reference's own code would build at that width.

Layer by layer, the standard deviation of what a member computes is within a factor of 2 of the reference's, in training mode and with
chance taken out.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from packify.capture.graphs import record_graphs
from packify.capture.unwrapping import unwrap
from packify.core.errors import PackError
from packify.core.spec import whole_number
from packify.laws.observation import arguments
from packify.laws.testbed import random_inputs, take_chance_out
from packify.nn.packed_network import PackedNetwork
from packify.nn.tree import add_constants, build_tree

FACTOR = 2.0
"""How far apart the standard deviations of a member and of the reference may be."""

_LAYERS = frozenset(
    "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear bilinear embedding LSTM GRU RNN matmul bmm einsum"
    " scaled_dot_product_attention batch_norm BatchNorm1d BatchNorm2d BatchNorm3d SyncBatchNorm layer_norm group_norm instance_norm"
    " rms_norm".split()
)


@dataclass(frozen=True)
class LayerSignal:
    """What one layer puts out.

    Attributes:
        name: the layer's module.
        kind: the operator.
        reference: standard deviation of its output in the reference.
        member: the same in a member, over all members (root of the mean square).
    """

    name: str
    kind: str
    reference: float
    member: float

    @property
    def ratio(self) -> float:
        """The member's over the reference's; 1 where both are 0."""
        if self.reference == self.member or max(self.reference, self.member) < _NOTHING:
            return 1.0
        return self.member / self.reference if self.reference else math.inf

    @property
    def is_within(self) -> bool:
        """The two are within a factor of 2."""
        return 1 / FACTOR <= self.ratio <= FACTOR


_NOTHING = 1e-12


@dataclass(frozen=True)
class Signal:
    """What a fresh member computes, next to the reference, layer by layer in the order of the graph.

    Attributes:
        layers: every layer that both run.
        outputs: what the networks return.
        batch: the batch size used.
    """

    layers: list[LayerSignal]
    outputs: list[LayerSignal]
    batch: int

    @property
    def outside(self) -> list[LayerSignal]:
        """The layers and outputs that are not within a factor of 2."""
        return [layer for layer in (*self.layers, *self.outputs) if not layer.is_within]

    @property
    def worst(self) -> LayerSignal | None:
        """The one that is farthest from the reference."""
        return max((*self.layers, *self.outputs), key=lambda layer: abs(math.log(max(layer.ratio, 1e-30))), default=None)

    def to_dict(self) -> dict[str, Any]:
        """The figures as a JSON-able dict."""
        return asdict(self)

    def __str__(self) -> str:
        total = len(self.layers) + len(self.outputs)
        worst = self.worst
        far = f"; the farthest is {worst.name} ({worst.kind}), {worst.ratio:.3g} times the reference's" if worst is not None else ""
        return f"{total - len(self.outside)} of {total} standard deviations are within a factor of {FACTOR:g} of the reference's{far}"


@torch.inference_mode(False)
def signal(packed: PackedNetwork, reference: nn.Module, x: Any = None, *, batch: int = 8, seed: int = 0) -> Signal:
    """The standard deviation of what every layer of a fresh member puts out, next to the reference's, in training mode without chance.

    Args:
        packed: a packed network as `packify.pack` gives it, not trained.
        reference: what it was packed from, with its initial weights; neither is changed.
        x: inputs as for ``forward``; None draws normal ones shaped like the example that it was packed with.
        batch: batch size of drawn inputs, where the network takes any.
        seed: of drawn inputs.

    Raises:
        PackError: `reference` is not what `packed` was made from.
        TraceError: the reference cannot be recorded.
    """
    seed, batch = whole_number("seed", seed, 0, 2**63), whole_number("batch", batch)
    reference = unwrap(reference)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        inputs = random_inputs(packed, x, packed.example_inputs, batch, _dtype(packed))
        there = _reference_values(packed, reference, inputs)
        here = [_member_values(packed, member, inputs) for member in range(packed.num_estimators)]
    layers = list(_compared(there.layers, [values.layers for values in here]))
    if not layers:
        raise PackError(
            type(reference).__name__,
            found="no layer of the packed network's name",
            why="the law compares the layers of a member with those of the network that it was made from",
            fix="pass the reference that packify.pack was called with",
        )
    outputs = list(_compared(there.outputs, [values.outputs for values in here]))
    return Signal(layers, outputs, batch)


@dataclass
class _Values:
    """Standard deviations by node."""

    layers: dict[str, tuple[str, str, float]]
    outputs: dict[str, tuple[str, str, float]]


def _reference_values(packed: PackedNetwork, reference: nn.Module, inputs: Any) -> _Values:
    recorded = record_graphs(reference, packed.example_inputs, leaves=packed.leaves)
    body = build_tree(reference, lambda _, tensor: tensor.detach().clone(), recorded.leaves)
    add_constants(body, recorded.constants)
    return _run(packed, body, recorded.graphs["train"], inputs)


def _member_values(packed: PackedNetwork, member: int, inputs: Any) -> _Values:
    single = packed.extract(member)
    return _run(packed, single.body, single.graphs["train"], inputs)


def _run(packed: PackedNetwork, body: nn.Module, graph: fx.Graph, inputs: Any) -> _Values:
    """One pass in training mode; the graph and the caller's modules are not changed."""
    graph = copy.deepcopy(graph)
    take_chance_out(graph, body.train(), packed.leaves)
    signals = _of_inputs(graph)
    layers = [node for node in graph.nodes if node.meta.get("op") in _LAYERS and node in signals]
    (output,) = graph.find_nodes(op="output")
    returned = [leaf for leaf in output.args[0] if isinstance(leaf, fx.Node)]
    watch = _Spreads(body, graph, {*layers, *returned})
    args, kwargs = arguments(inputs)
    watch.run(
        *packed.interface.flat_inputs(args, kwargs) if packed.inputs == "shared" else packed.member_template.flat_inputs(args, kwargs)
    )
    stds = watch.stds
    return _Values(
        {node.name: (node.meta["path"] or node.name, node.meta["op"], stds[node]) for node in layers if node in stds},
        {leaf.name: ("output", leaf.meta["op"], stds[leaf]) for leaf in returned if leaf in stds},
    )


class _Spreads(fx.Interpreter):
    """Runs a graph in the memory of a forward pass, and keeps standard deviations."""

    def __init__(self, body: nn.Module, graph: fx.Graph, wanted: set[fx.Node]) -> None:
        super().__init__(body, graph=graph)
        self.wanted = wanted
        self.stds: dict[fx.Node, float] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n in self.wanted and isinstance(value, Tensor) and value.is_floating_point() and value.numel():
            self.stds[n] = float(value.std(unbiased=False))
        return value


def _of_inputs(graph: fx.Graph) -> set[fx.Node]:
    """What is computed from the inputs: a weight that is standardised by a norm is no signal, and grows as its fan-in shrinks."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found


def _compared(there: dict[str, tuple[str, str, float]], here: list[dict[str, tuple[str, str, float]]]) -> Iterator[LayerSignal]:
    for name, (path, kind, std) in there.items():
        own = [values[name][2] for values in here if name in values]
        if own:
            yield LayerSignal(path, kind, std, math.sqrt(sum(value**2 for value in own) / len(own)))


def _dtype(packed: PackedNetwork) -> torch.dtype:
    held = (*packed.parameters(), *packed.buffers())
    return next((tensor.dtype for tensor in held if tensor.is_floating_point()), torch.float32)
