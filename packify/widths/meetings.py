"""The sizes that a number in a graph meets: the fans of the layer whose weight it scales, the size of a head, the width of a stream."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import fx

from packify.widths.assignment import Sizes
from packify.widths.dims import Dim
from packify.widths.weights import argument, weight_nodes

if TYPE_CHECKING:
    from packify.widths.analysis import Layer

Kind = Literal["weight", "product", "embedding", "output"]

# Operators that multiply activations with each other.
_PRODUCTS = frozenset("matmul bmm einsum baddbmm addbmm scaled_dot_product_attention tensordot".split())
# What a number may be carried through to the product, or from it.
_CARRYING = frozenset(
    "reshape transpose permute movedim flatten unflatten unsqueeze squeeze contiguous getitem unbind chunk split expand clone to float"
    " type_as mul div add sub neg cat stack T mT reshape_as expand_as rearrange dropout Dropout masked_fill repeat roll detach".split()
)
_FARTHEST = 40


@dataclass(frozen=True)
class Meeting:
    """The sizes that a number meets.

    Attributes:
        kind: what it multiplies: (a part of) a ``"weight"``, a factor or the result of a ``"product"`` of activations, an
            ``"embedding"``, or the ``"output"`` of a layer.
        sizes: by role, each the product of some dims, likeliest first.
        per_group: the roles that gamma divides, and the layer that has it.
    """

    kind: Kind
    sizes: Mapping[str, Sequence[Dim]]
    per_group: Mapping[str, fx.Node] = field(default_factory=dict)

    @property
    def alone_will_do(self) -> bool:
        """A number that is a power of one size is believed without a second one."""
        return self.kind != "output"

    def reference_sizes(self) -> dict[str, float]:
        """The reference's, by role."""
        return {role: math.prod(dim.root().size for dim in dims) for role, dims in self.sizes.items()}

    def member_sizes(self, sizes: Sizes, gamma_of: Callable[[fx.Node], int]) -> dict[str, float]:
        """A member's, by role."""
        found = {role: float(math.prod(sizes.of(dim) for dim in dims)) for role, dims in self.sizes.items()}
        return {role: size / gamma_of(self.per_group[role]) if role in self.per_group else size for role, size in found.items()}


def weight_makers(graph: fx.Graph, layers: Mapping[fx.Node, Layer]) -> dict[fx.Node, fx.Node]:
    """The nodes that a layer's weight is computed by, each with the layer."""
    found: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        if node in layers and argument(node, "weight").op != "get_attr":
            found |= dict.fromkeys(weight_nodes(node), node)
    return found


def meeting_of(node: fx.Node, dims: Mapping[fx.Node, Any], makers: Mapping[fx.Node, fx.Node]) -> Meeting | None:
    """What the number among a node's arguments meets; None where it meets no width."""
    operand = next((item for item in node.args if isinstance(item, fx.Node) and isinstance(item.meta["val"], torch.Tensor)), None)
    if operand is None or not isinstance(dims.get(operand), list):
        return None
    if node in makers:
        return _of_weight(makers[node], operand, dims)
    if node.meta["op"] in _PRODUCTS:
        return Meeting("product", dict(_contracted(node, dims)))
    made_by = next(_back(operand, lambda source: source.meta["op"] == "embedding"), None)
    if made_by is not None and operand is made_by:
        return Meeting("embedding", {"the embedding's width": dims[operand][-1:]})
    sources = list(_back(operand, _is_product))
    if sources or any(True for _ in _on(node)):
        sizes = {role: found for source in sources for role, found in _contracted(source, dims)}
        sizes |= _axes(operand, dims)
        for layer in _back(operand, lambda source: source.meta["op"] == "linear"):
            sizes.setdefault("the width of the stream", dims[argument(layer, "input")][-1:])
        return Meeting("product", sizes)
    if operand.meta["op"] in _LAYERS:
        return Meeting("output", _fans(operand, dims), {"fan_in": operand})
    return None


_LAYERS = frozenset("conv1d conv2d conv3d linear".split())


def _of_weight(layer: fx.Node, operand: fx.Node, dims: Mapping[fx.Node, Any]) -> Meeting:
    sizes = _fans(layer, dims) | {f"axis {axis} of it": [dim] for axis, dim in enumerate(dims[operand]) if dim.root().size > 1}
    return Meeting("weight", sizes, {"fan_in": layer})


def _fans(layer: fx.Node, dims: Mapping[fx.Node, Any]) -> dict[str, Sequence[Dim]]:
    """Fan-in and fan-out of a layer, as torch.nn.init counts them."""
    weight = argument(layer, "weight")
    own = dims.get(weight)
    if not isinstance(own, list) or len(own) < 2:
        return {}
    return {"fan_in": own[1:], "fan_out": [own[0], *own[2:]], "the layer's outputs": own[:1], "the layer's inputs": own[1:2]}


def _axes(operand: fx.Node, dims: Mapping[fx.Node, Any]) -> dict[str, Sequence[Dim]]:
    """Every axis of a tensor that no input gives, the last first, and the factors of those that are merged."""
    found: dict[str, Sequence[Dim]] = {}
    for back, dim in enumerate(reversed(dims[operand]), 1):
        factors = dim.factors()
        if len(factors) > 1:
            found |= {f"factor {index} of axis -{back}": [factor] for index, factor in enumerate(reversed(factors), 1) if _is_width(factor)}
        if _is_width(dim):
            found["the size of a head" if back == 1 else f"axis -{back}"] = [dim]
    return found


def _is_width(dim: Dim) -> bool:
    return dim.root().size > 1 and not dim.is_pinned()


def _contracted(node: fx.Node, dims: Mapping[fx.Node, Any]) -> Iterator[tuple[str, Sequence[Dim]]]:
    """The size that a product sums over."""
    operands = [item for item in node.args if isinstance(item, fx.Node) and isinstance(dims.get(item), list) and dims[item]]
    if node.meta["op"] == "einsum" and isinstance(node.args[0], str):
        inputs, arrow, output = node.args[0].replace(" ", "").partition("->")
        letters = inputs.split(",")[0]
        if arrow and operands and len(letters) == len(dims[operands[0]]):
            summed = [dim for letter, dim in zip(letters, dims[operands[0]], strict=True) if letter not in output]
            if summed:
                yield "the size of a head", summed
        return
    first = operands[1:2] if node.meta["op"] in ("baddbmm", "addbmm") else operands[:1]
    for operand in first:
        yield "the size of a head", dims[operand][-1:]


def _is_product(node: fx.Node) -> bool:
    return node.meta["op"] in _PRODUCTS


def _back(node: fx.Node, wanted: Any) -> Iterator[fx.Node]:
    """The nodes of a kind that a value comes from, past operators that only carry it."""
    return _search([node], wanted, lambda one: one.all_input_nodes if one.meta["op"] in _CARRYING else ())


def _on(node: fx.Node) -> Iterator[fx.Node]:
    """The products of activations that a value goes into, past operators that only carry it."""
    return _search(node.users, _is_product, lambda one: one.users if one.meta.get("op") in _CARRYING else ())


def _search(start: Iterable[fx.Node], wanted: Any, further: Any) -> Iterator[fx.Node]:
    waiting, seen = list(start), set[fx.Node]()
    while waiting and len(seen) < _FARTHEST:
        node = waiting.pop(0)
        if node in seen or not isinstance(node.meta.get("val"), (torch.Tensor, tuple, list)):
            continue
        seen.add(node)
        if wanted(node):
            yield node
        else:
            waiting += further(node)
