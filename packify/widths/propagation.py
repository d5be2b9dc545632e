"""One walk over a reference graph: every axis gets its `Dim`, every operator equates what must stay equal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import fx, nn

from packify.capture.binding import arguments, call_rule
from packify.capture.operators import rule_of, traits_of
from packify.capture.signatures import Signature
from packify.core import nested
from packify.core.errors import PackError, PackifyError
from packify.widths.dims import GIVEN, Dim, Reason, fixed, free, pin
from packify.widths.matching import equate

_GIVEN_BY = {"placeholder": "an axis of the input", "get_attr": "an axis of whole numbers, which are positions or counts"}


@dataclass
class Axes:
    """A tensor of the reference while widths travel.

    Attributes:
        dims: one `Dim` per axis.
        val: the reference's meta tensor.
        weight: computed from parameters, buffers and constants alone by operators that are no layers, not from the input.
        learned: a weight that a parameter is in.
    """

    dims: list[Dim]
    val: torch.Tensor
    weight: bool = False
    learned: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The reference's sizes."""
        return tuple(self.val.shape)


@dataclass(frozen=True)
class Call:
    """What a refit knows about a call in the member.

    Attributes:
        values: the arguments by name as they come out in the member before refitting (meta tensors and numbers).
        shape: the shape that the output must have (a tuple of shapes for several outputs).
        cuts: for axes that the call slices or pads, the member's sizes before, of and after the piece.
    """

    values: dict[str, Any]
    shape: Any
    cuts: dict[int, tuple[int, int, int]]


class HasWidths(Protocol):
    """The part of a rule that this pass uses."""

    @property
    def widths(self) -> Any: ...
    @property
    def refit(self) -> Any: ...
    @property
    def signature(self) -> Any: ...
    @property
    def traits(self) -> Any: ...


class Parameters:
    """The dims of every parameter, buffer and constant, shared by the graphs of all modes. Tied tensors share theirs.

    Tables of real numbers may be cut like weights; whole numbers are positions and counts, which stay.
    """

    def __init__(self, root: nn.Module, constants: Mapping[str, torch.Tensor], tables: frozenset[str]) -> None:
        self.tables = tables
        self.dims: dict[str, list[Dim]] = {}
        self.learned = {name for name, _ in root.named_parameters(remove_duplicate=False)}
        known: dict[int, list[Dim]] = {}
        held = (*root.named_parameters(remove_duplicate=False), *root.named_buffers(remove_duplicate=False), *constants.items())
        for name, tensor in held:
            if id(tensor) not in known:
                floating = tensor.is_floating_point() or tensor.is_complex()
                known[id(tensor)] = [free(size) if size != 1 and floating else fixed(size) for size in tensor.shape]
            self.dims[name] = known[id(tensor)]


class WidthPropagation:
    """The state of one walk, and what width rules call.

    Attributes:
        node: the node being walked.
        out: its reference value.
        dims: the dims of every node's value walked so far (nested for tuples).
        scaled_groups: numbers of groups of a conv that are widths, so that the channels of one group stay.
    """

    def __init__(
        self,
        root: nn.Module,
        graph: fx.Graph,
        parameters: Parameters,
        rules: Mapping[Any, HasWidths],
        scaled_groups: frozenset[int] = frozenset(),
    ) -> None:
        self.root, self.graph, self.parameters, self.rules, self.scaled_groups = root, graph, parameters, rules, scaled_groups
        self.dims: dict[fx.Node, Any] = {}
        self.node: fx.Node = next(iter(graph.nodes))
        self.cuts: dict[fx.Node, dict[int, tuple[Dim, Dim, Dim]]] = {}
        self._weights: set[fx.Node] = set()
        self._learned: set[fx.Node] = set()
        self.signature: Signature | None = None
        self._makers = makers_of_weights(graph, rules)

    def run(self) -> None:
        """Visit every node, in order."""
        known: set[Dim] = set()
        for node in self.graph.nodes:
            self.node = node
            self.dims[node] = self._visit(node)
            self._name_what_is_given(self.dims[node], known)

    # -- what rules call ---------------------------------------------------------------------------------------------

    @property
    def out(self) -> Any:
        """The current node's reference value."""
        return self.node.meta["val"]

    def given(self, name: str) -> Any:
        """An argument of the current node as the graph has it: a node where the code computes it; None where there is none."""
        return arguments(self.node, self.signature).get(name)

    def reason(self, why: str) -> Reason:
        """`why`, said of the current node."""
        return Reason(self.node.meta["path"] or self.node.name, self.node.meta["source"], why)

    def equate(self, left: Dim, right: Dim) -> None:
        """The current node makes two sizes meet, so they stay equal."""
        equate(left, right, self.reason(f"two axes meet in {self.node.meta['op']}"))

    def pin(self, dim: Dim, why: str) -> None:
        """The current node keeps a size as the reference has it."""
        pin(dim, self.reason(why))

    def pin_all(self, value: Any, why: str) -> None:
        """The current node keeps every size of the tensors in nested arguments."""
        for axes in tensors(value):
            for dim in axes.dims:
                self.pin(dim, why)

    def layer(self, dim: Dim) -> None:
        """A layer with weights decides this size: it is a width, and scales.

        What makes the weight of another layer has as many elements as that layer's own widths say.
        """
        if self.node not in self._makers:
            dim.root().demands.append(self.node.meta["path"] or self.node.name)

    def batched(self, dims: Iterable[Dim]) -> None:
        """Two activations are multiplied for each position of these axes alone: where one is a factor of a width, it counts heads."""
        for dim in dims:
            if not dim.is_pinned():
                dim.root().batched.append(self.node.meta["path"] or self.node.name)

    def reads(self, dim: Dim) -> None:
        """A layer with weights sums over this size."""
        dim.root().read = True

    def keep_frozen_constant(self, weight: Axes, inputs: int) -> None:
        """A layer that sums `inputs` features with frozen numbers that were not drawn is an operator for good, not a width."""
        source = self.given("weight")
        if inputs > 1 and isinstance(source, fx.Node) and str(source.target) in self.parameters.tables:
            self.pin_all(weight, "a frozen table")

    def parameter(self, name: str) -> Axes | None:
        """A parameter or buffer of the module that this node calls."""
        module: Any = self.root.get_submodule(str(self.node.target))
        tensor = getattr(module, name, None)
        return None if tensor is None else Axes(self.parameters.dims[f"{self.node.target}.{name}"], tensor, weight=True)

    def cut(self, axis: int, before: Dim, piece: Dim, after: Dim) -> None:
        """This node slices or pads an axis: remember the parts, so that its constants can be refitted."""
        self.cuts.setdefault(self.node, {})[axis] = (before, piece, after)

    def structure(self, value: Any = None) -> Any:
        """Fresh dims, for every tensor of the output (or of `value`), that cannot change."""
        value = self.out if value is None else value
        if isinstance(value, torch.Tensor):
            return [fixed(size) for size in value.shape]
        if isinstance(value, (tuple, list)):
            return tuple(self.structure(item) for item in value)
        return None

    def broadcast(self, *values: Any) -> list[Dim]:
        """The dims of tensors that are broadcast together; sizes that meet are equated."""
        operands = tensors(values)
        ndim = max(len(axes.dims) for axes in operands)
        result: list[Dim] = [fixed(1)] * ndim
        for axes in operands:
            for position, dim in enumerate(axes.dims, ndim - len(axes.dims)):
                if axes.shape[position - ndim] == 1:
                    continue
                if result[position].root().size == 1:
                    result[position] = dim
                else:
                    self.equate(result[position], dim)
        return result

    # -- the walk ----------------------------------------------------------------------------------------------------

    def _visit(self, node: fx.Node) -> Any:
        value = node.meta["val"]
        if node.op == "placeholder":
            return [fixed(size) for size in value.shape]
        if node.op == "get_attr":
            self._weights.add(node)
            if str(node.target) in self.parameters.learned:
                self._learned.add(node)
            return self.parameters.dims.get(str(node.target)) or self.structure()
        args, kwargs = self.arguments(node.args), self.arguments(node.kwargs)
        if node.op == "output":
            self._pin_outputs(node, args[0])
            return None
        inputs = tensors((args, kwargs))
        if all(axes.weight for axes in inputs) and node.op != "call_module" and not traits_of(self.rules, node) & WEIGHTED:
            self._weights.add(node)
            if any(axes.learned for axes in inputs):
                self._learned.add(node)
        if not isinstance(value, (torch.Tensor, tuple, list)) and value is not None:
            return None
        rule = rule_of(self.rules, node)
        self.signature = None if rule is None else rule.signature
        if rule is None or rule.widths is None:
            self.pin_all((args, kwargs), f"{node.meta['op']} has no rule for widths")
            if node.op == "call_module":
                self._pin_module(str(node.target))
            return self.structure()
        try:
            return call_rule(rule.widths, (self,), node, rule.signature, (args, kwargs))
        except PackifyError:
            raise
        except Exception as error:
            raise PackError(
                f"{node.meta['path'] or node.name} ({node.meta['source']})",
                found=f"{node.meta['op']} called as {node.format_node()}: {type(error).__name__}: {error}",
                why="its rule for widths does not know this call",
                fix="please report this call; meanwhile keep the module whole with leaves=[ItsType]",
            ) from error

    def _pin_outputs(self, node: fx.Node, leaves: Any) -> None:
        """An output keeps the reference's shape, unless it is free."""
        for index, (leaf, path) in enumerate(zip(leaves, node.meta["paths"], strict=True)):
            if index not in node.meta.get("free", ()):
                self.pin_all(leaf, f"the output {path} keeps the reference's shape" if path else "the output keeps the reference's shape")

    def _name_what_is_given(self, value: Any, known: set[Dim]) -> None:
        """A size that is structure from this node on says so in its reason."""
        if isinstance(value, (list, tuple)):
            for item in value:
                self._name_what_is_given(item, known)
        elif isinstance(value, Dim) and (root := value.root()) not in known:
            known.add(root)
            for atom in root.atoms():
                if atom.pin is GIVEN:
                    atom.pin = self.reason(_GIVEN_BY.get(self.node.op, f"a size that {self.node.meta['op']} makes"))

    def _pin_module(self, path: str) -> None:
        for name, dims in self.parameters.dims.items():
            if name.startswith(path + "."):
                for dim in dims:
                    self.pin(dim, "the module is kept whole")

    def arguments(self, value: Any) -> Any:
        """A node's arguments, tensors as `Axes` and numbers as the reference's values."""

        def axes(leaf: Any) -> Any:
            if not isinstance(leaf, fx.Node):
                return leaf
            return self._axes(leaf.meta["val"], self.dims[leaf], leaf in self._weights, leaf in self._learned)

        return nested.map_leaves(value, axes)

    def _axes(self, value: Any, dims: Any, weight: bool, learned: bool) -> Any:
        if isinstance(value, torch.Tensor):
            return Axes(dims, value, weight, learned)
        if isinstance(value, (tuple, list)) and dims is not None:
            return tuple(self._axes(item, part, weight, learned) for item, part in zip(value, dims, strict=True))
        return value


WEIGHTED = frozenset(("layer", "weighted"))


def makers_of_weights(graph: fx.Graph, rules: Mapping[Any, HasWidths]) -> set[fx.Node]:
    """The layers whose output becomes, through operators that are no layers, the weight of another layer."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if not traits_of(rules, node) & WEIGHTED:
            continue
        waiting, seen = [arguments(node, rule_of(rules, node).signature).get("weight")], set()
        while waiting:
            source = waiting.pop()
            if not isinstance(source, fx.Node) or source in seen or not isinstance(source.meta["val"], (torch.Tensor, tuple, list)):
                continue
            seen.add(source)
            if traits_of(rules, source) & (WEIGHTED | {"product"}):
                found.add(source)
            else:
                waiting += source.all_input_nodes
    return found


def tensors(value: Any) -> list[Axes]:
    """Every tensor in nested arguments."""
    return [leaf for leaf in nested.leaves(value) if isinstance(leaf, Axes)]
