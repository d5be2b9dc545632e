"""Slim: one member of the ensemble, as widths, graphs and a module tree, without a single weight."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from packify.capture.graphs import RecordedGraphs
from packify.core.errors import PackError, SpecError
from packify.core.report import LayerWidth, Note
from packify.core.spec import Spec
from packify.nn.tree import build_tree, leaf_names, resized, state_sizes
from packify.widths.assignment import Step, assign, choose_scaled, member_size
from packify.widths.dims import Dim, Reason, pin, require_multiple
from packify.widths.gamma import gamma_for, places
from packify.widths.member import Builder, MemberGraph
from packify.widths.propagation import HasWidths, Parameters, WidthPropagation
from packify.widths.weights import (
    agreed,
    argument,
    groups_of,
    is_read_elsewhere,
    used_more_than_once,
    weight_is_computed,
    weight_name,
    weight_nodes,
)

_MAX_ROUNDS = 50
_DEEPEST = 20_000


@dataclass
class Member:
    """One member, PE-(alpha, M, gamma)'s subnetwork.

    Attributes:
        spec: alpha, M and gamma.
        traced: the reference.
        root: the member's module tree on the meta device, with the reference's names.
        graphs: its graphs by mode; ``node.meta`` has ``val`` (the member's), ``reference`` (the reference's) and ``gamma``.
        constants: tensors of the reference's code, as long as the member's axes are.
        layers, pins, rounded, lowered: for the report.
    """

    spec: Spec
    recorded: RecordedGraphs
    root: nn.Module
    graphs: dict[str, fx.Graph]
    constants: dict[str, torch.Tensor]
    layers: list[LayerWidth] = field(default_factory=list)
    pins: list[Note] = field(default_factory=list)
    rounded: list[Note] = field(default_factory=list)
    lowered: list[Note] = field(default_factory=list)

    @property
    def params(self) -> int:
        """Number of parameters."""
        return sum(parameter.numel() for parameter in self.root.parameters())


class Slimmer:
    """The widths of a reference, walked once; `member` then answers for any spec."""

    def __init__(self, recorded: RecordedGraphs, rules: Mapping[Any, HasWidths]) -> None:
        self.recorded, self.rules = recorded, rules

    def member(self, spec: Spec) -> Member:
        """The member of PE-(alpha, M, gamma).

        Raises:
            PackError: the sizes of a node cannot be reconciled.
            SpecError: gamma divides no layer.
        """
        with _deep_structures():
            return _Solution(self.recorded, self.rules, spec).solve()


def slim(recorded: RecordedGraphs, spec: Spec, rules: Mapping[Any, HasWidths]) -> Member:
    """`Slimmer(traced, rules).member(spec)`."""
    return Slimmer(recorded, rules).member(spec)


@contextmanager
def _deep_structures() -> Iterator[None]:
    """Sizes that are shares of shares nest as deep as a network has blocks, and are looked into recursively."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, _DEEPEST))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


class _Solution:
    def __init__(self, recorded: RecordedGraphs, rules: Mapping[Any, HasWidths], spec: Spec) -> None:
        self.recorded, self.rules, self.spec = recorded, rules, spec
        self.parameters = Parameters(recorded.root, recorded.constants, recorded.tables)
        self.propagations = {
            id(graph): WidthPropagation(recorded.root, graph, self.parameters, rules) for graph in recorded.graphs.values()
        }
        for propagation in self.propagations.values():
            propagation.run()
        self.places = {
            node: place for propagation in self.propagations.values() for node, place in places(propagation.graph, rules).items()
        }
        if spec.gamma > 1 and spec.gamma_policy == "uniform":
            self._divisible_by_gamma()

    def _divisible_by_gamma(self) -> None:
        for node, place in self.places.items():
            if not (place.first or place.last) and groups_of(node) == 1:
                width_in, width_out, _ = self._widths(node)
                for width in (width_in, width_out):
                    if width.root().size * self.spec.ratio >= self.spec.gamma:
                        require_multiple(width, self.spec.gamma, Reason(node.meta["path"] or node.name, "", "gamma subgroups"))

    def solve(self) -> Member:
        refused: set[fx.Node] = set()
        for _ in range(_MAX_ROUNDS):
            roots = self._roots()
            for dim in roots:
                dim.scaled = False
            choose_scaled(roots)
            self.steps = assign(roots, self.spec.ratio, self.spec.round_to)
            gammas, notes = self._gammas(refused)
            grouped = {name: gamma for node, gamma in gammas.items() if (name := weight_name(node)) is not None}
            root = build_tree(self.recorded.root, functools.partial(self._empty, grouped=grouped), self.recorded.leaves)
            whole = leaf_names(root, self.recorded.leaves)
            for name, module in root.named_modules():
                if name not in whole:
                    state_sizes(module)
            self.constants = {
                name: resized(tensor, tuple(map(member_size, self.parameters.dims[name])))
                for name, tensor in self.recorded.constants.items()
            }
            built = {
                key: Builder(propagation, root, self.constants, self.rules, gammas, set(grouped), self.recorded.leaves).build()
                for key, propagation in self.propagations.items()
            }
            if not self._learn(built, gammas, refused):
                return self._member(root, built, gammas, notes)
        raise PackError(
            type(self.recorded.root).__name__,
            found=f"widths that still do not agree after {_MAX_ROUNDS} rounds",
            fix="please report this network",
        )

    def _roots(self) -> list[Dim]:
        found: dict[int, Dim] = {}

        def visit(value: Any) -> None:
            if isinstance(value, Dim):
                root = value.root()
                if id(root) not in found:
                    found[id(root)] = root
                    for part in root.parts:
                        visit(part)
            elif isinstance(value, (list, tuple)):
                for item in value:
                    visit(item)

        visit(list(self.parameters.dims.values()))
        for propagation in self.propagations.values():
            visit(list(propagation.dims.values()))
        return list(found.values())

    def _empty(self, name: str, tensor: torch.Tensor, grouped: Mapping[str, int]) -> torch.Tensor:
        shape = [member_size(dim) for dim in self.parameters.dims[name]]
        if name in grouped:
            shape[1] //= grouped[name]
        return torch.empty(shape, dtype=tensor.dtype, device="meta")

    def _learn(self, built: Mapping[int, MemberGraph], gammas: Mapping[fx.Node, int], refused: set[fx.Node]) -> bool:
        """Turn every conflict of a run into pins. True if there was any."""
        conflicts = [(self.propagations[key], conflict) for key, result in built.items() for conflict in result.conflicts]
        learned = False
        for propagation, conflict in conflicts:
            node = conflict.node
            blamed = {
                layer
                for layer in gammas
                if layer not in refused and weight_is_computed(layer) and (layer is node or node in weight_nodes(layer))
            }
            if blamed:
                refused |= blamed
                learned = True
                continue
            reason = Reason(
                node.meta["path"] or node.name, node.meta["source"], f"{node.meta['op']} does not fit a narrower network: {conflict.found}"
            )
            for parent in (node, *node.all_input_nodes):
                for dim in _flat(propagation.dims[parent]):
                    learned = pin(dim, reason) or learned
        if conflicts and not learned:
            node = conflicts[0][1].node
            raise PackError(
                f"{node.meta['path'] or node.name} ({node.meta['source']})",
                found=f"{node.format_node()}: {conflicts[0][1].found}",
                why="the member does not run although every axis of this operator keeps the reference's size",
                fix="please report this call; meanwhile keep the module whole with leaves=[ItsType]",
            )
        return bool(conflicts)

    # -- gamma -------------------------------------------------------------------------------------------------------

    def _gammas(self, refused: set[fx.Node]) -> tuple[dict[fx.Node, int], dict[fx.Node, str]]:
        gammas: dict[fx.Node, int] = {}
        notes: dict[fx.Node, str] = {}
        shared = used_more_than_once(self.places)
        widest = 1.0
        for node, place in self.places.items():
            width_in, width_out, groups = self._widths(node)
            name = weight_name(node)
            if not (place.first or place.last):
                widest = max(widest, float(width_in.root().size * self.spec.ratio))
            if name is None or name in shared or node in refused or is_read_elsewhere(node):
                gamma, note = 1, "" if self.spec.gamma == 1 else "its weight is computed or used by several layers"
            elif self._groups_follow_width(node):
                gamma, note = 1, "" if self.spec.gamma == 1 else "it is depthwise"
            else:
                gamma, note = gamma_for(self.spec, place, member_size(width_in), member_size(width_out), groups)
            if gamma > 1:
                gammas[node] = gamma
            if note:
                notes[node] = note
        if self.spec.gamma > widest and any(not (place.first or place.last) for place in self.places.values()):
            raise SpecError(
                f"gamma={self.spec.gamma}",
                found=f"the widest hidden layer of a member has {widest:g} input channels",
                why="gamma groups need at least one channel each, so this gamma can never divide a layer",
                fix=f"pass gamma={2 if widest >= 2 else 1}, a larger alpha or a smaller num_estimators",
            )
        common = agreed(gammas, self.places)
        other_use = "its weight is used otherwise in another mode"
        return common, {**{node: other_use for node, gamma in gammas.items() if common.get(node, 1) < gamma}, **notes}

    def _groups_follow_width(self, node: fx.Node) -> bool:
        """A conv whose rule has marked its groups as a width."""
        return any(node in propagation.cuts for propagation in self.propagations.values())

    def _widths(self, node: fx.Node) -> tuple[Dim, Dim, int]:
        """A layer's input and output width, and its own groups."""
        propagation = next(propagation for propagation in self.propagations.values() if node in propagation.dims)
        data, weight = argument(node, "input"), argument(node, "weight")
        dims = propagation.dims[data]
        if node.meta["op"] == "linear":
            return dims[-1], propagation.dims[node][-1], 1
        axis = len(dims) - weight.meta["val"].dim() + 1
        return dims[axis], propagation.dims[node][axis], groups_of(node)

    # -- what is told ------------------------------------------------------------------------------------------------

    def _member(
        self, root: nn.Module, built: Mapping[int, MemberGraph], gammas: Mapping[fx.Node, int], notes: Mapping[fx.Node, str]
    ) -> Member:
        graphs = {mode: built[id(graph)].graph for mode, graph in self.recorded.graphs.items()}
        member = Member(self.spec, self.recorded, root, graphs, self.constants)
        told: set[str] = set()
        for node in self.places:
            name = node.meta["path"] or node.name
            if name in told:
                continue
            told.add(name)
            width_in, width_out, groups = self._widths(node)
            gamma = gammas.get(node, 1)
            member.layers.append(
                LayerWidth(
                    name,
                    node.meta["op"],
                    width_in.root().size,
                    width_out.root().size,
                    member_size(width_in),
                    member_size(width_out),
                    groups,
                    gamma,
                    self.spec.gamma,
                    notes.get(node, ""),
                )
            )
            if node in notes:
                member.lowered.append(Note(name, node.meta["source"], f"gamma {self.spec.gamma} -> {gamma}", notes[node]))
        self._tell_widths(member)
        return member

    def _tell_widths(self, member: Member) -> None:
        """Pinned and rounded widths, once per width and for the layers that decide it."""
        for dim in self._roots():
            wanted, size = dim.size * self.spec.ratio, member_size(dim)
            if not dim.demands or dim.size == 1 or size == wanted:
                continue
            layers = list(dict.fromkeys(dim.demands))
            names = ", ".join(layers) if len(layers) <= 3 else f"{layers[0]} and {len(layers) - 1} more"
            reason = next((atom.pin for atom in dim.atoms() if atom.pin is not None and atom.size > 1), None)
            if size == dim.size and reason is not None:
                member.pins.append(
                    Note(names, reason.source, f"width {dim.size} kept", f"{reason.why} at {reason.node}" if reason.node else reason.why)
                )
            else:
                member.rounded.append(self._rounded(dim, names, f"alpha / M times {dim.size} is {float(wanted):g}"))

    def _rounded(self, dim: Dim, names: str, why: str) -> Note:
        """A width that is not `alpha / M` times the reference's, with the divisibility that moved it farthest."""
        step = max((self.steps[atom] for atom in dim.atoms() if atom in self.steps), key=lambda step: step.count, default=Step())
        because = step.because
        if step.count > 1:
            why += f", and it must be made of multiples of {step.count}" + (f": {because.why} at {because.node}" if because else "")
        return Note(names, because.source if because else "", f"width {dim.size} -> {member_size(dim)}", why)


def _flat(value: Any) -> list[Dim]:
    if isinstance(value, Dim):
        return [value]
    if isinstance(value, (list, tuple)):
        return [dim for item in value for dim in _flat(item)]
    return []
