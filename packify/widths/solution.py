"""One configuration: sizes for every axis, gamma for every layer, and the member that proves them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import fx, nn

from packify.core.errors import PackError
from packify.core.report import LayerWidth, Note
from packify.core.spec import Spec
from packify.nn.subgroups import Subgroups
from packify.nn.tables import fitted, table_notes
from packify.nn.tree import resized, sized_tree
from packify.widths.analysis import DEPTHWISE, WidthAnalysis, flat
from packify.widths.assignment import Pins, Sizes, Step, assign
from packify.widths.axes import Axis, axes_of
from packify.widths.dims import Atom, Dim, Reason
from packify.widths.gammas import Gammas, asked_of_widths, choose_gammas
from packify.widths.groups import ONE_GROUP, group_note
from packify.widths.heads import Heads, choose_heads, head_notes
from packify.widths.member import Builder, Conflict, MemberGraph
from packify.widths.numbers import follow, substitute
from packify.widths.weights import weight_is_computed, weight_nodes

_MAX_ROUNDS = 50


@dataclass
class Solved:
    """What one configuration comes to.

    Attributes:
        root: the member's module tree on the meta device.
        graphs: its graphs by mode.
        constants: tensors of the reference's code, as long as the member's axes are.
        axes: the axes of every tensor of the reference, by name, and how many of their elements the member has.
        cut: by weight, how gamma cuts its layer.
        layers, pins, rounded, lowered, numbers, heads, cardinality: for the report.
    """

    root: nn.Module
    graphs: dict[str, fx.Graph]
    constants: dict[str, torch.Tensor]
    axes: dict[str, tuple[Axis, ...]]
    cut: dict[str, Subgroups]
    layers: list[LayerWidth]
    pins: list[Note]
    rounded: list[Note]
    lowered: list[Note]
    numbers: list[Note]
    heads: list[Note]
    cardinality: list[Note]


class Solution:
    """Sizes are assigned and the member is run; what does not fit is kept as the reference has it, until all fits.

    Everything that a configuration learns is its own: the analysis is shared by all of them.
    """

    def __init__(self, analysis: WidthAnalysis, spec: Spec) -> None:
        self.analysis, self.spec, self.recorded = analysis, spec, analysis.recorded
        self.pins = Pins()
        self.refused: set[fx.Node] = set()
        self.kept_heads: dict[Atom, str] = {}
        self.asked = asked_of_widths(analysis, spec) if spec.gamma > 1 and spec.gamma_policy == "uniform" else {}

    def solve(self) -> Solved:
        """The member.

        Raises:
            PackError: the sizes of a node cannot be reconciled.
            SpecError: gamma divides no layer.
        """
        for _ in range(_MAX_ROUNDS):
            heads = self._heads()
            sizes = assign(self.analysis.roots, self.spec.ratio, self.spec.round_to, self.pins, self.asked, heads.scaled)
            gammas = choose_gammas(self.analysis, self.spec, sizes, self.pins, self.refused)
            root, constants, built = self._build(sizes, gammas)
            if not self._learn(built, gammas, heads):
                graphs = {mode: built[id(graph)].graph for mode, graph in self.recorded.graphs.items()}
                layers, lowered = self._tell_layers(sizes, gammas)
                pins, rounded = self._tell_widths(sizes)
                nodes = {node: new for result in built.values() for node, new in result.nodes.items()}
                followed = follow(self.analysis.numbers, sizes, gammas.of, self.spec.constants, nodes)
                substitute(nodes, followed.values)
                tables = [note for name, tensor in self.recorded.constants.items() for note in self._table(name, tensor, sizes)[1]]
                axes = axes_of(self.analysis.parameters.dims, sizes)
                return Solved(
                    root,
                    graphs,
                    constants,
                    axes,
                    gammas.weights,
                    layers,
                    pins,
                    rounded,
                    lowered,
                    [*followed.notes, *tables],
                    *self._tell_factors(heads, sizes),
                )
        raise PackError(
            type(self.recorded.root).__name__,
            found=f"widths that still do not agree after {_MAX_ROUNDS} rounds",
            fix="please report this network",
        )

    def _heads(self) -> Heads:
        self.pins.forget_heads()
        spec, roots = self.spec, self.analysis.roots
        return choose_heads(self.analysis.splits, roots, spec.ratio, spec.round_to, self.pins, self.kept_heads, spec.heads)

    # -- the member --------------------------------------------------------------------------------------------------

    def _build(self, sizes: Sizes, gammas: Gammas) -> tuple[nn.Module, dict[str, torch.Tensor], dict[int, MemberGraph]]:
        dims = self.analysis.parameters.dims
        grouped = {name: own.gamma for name, own in gammas.weights.items()}
        leaves = self.recorded.leaves

        unused = self.analysis.unused if self.spec.unused == "drop" else frozenset()

        def empty(name: str, tensor: torch.Tensor) -> torch.Tensor | None:
            if name in unused:
                return None
            shape = [sizes.of(dim) for dim in dims[name]]
            if name in grouped:
                shape[1] //= grouped[name]
            return torch.empty(shape, dtype=tensor.dtype, device="meta")

        root = sized_tree(self.recorded.root, empty, leaves)
        constants = {name: self._table(name, tensor, sizes)[0] for name, tensor in self.recorded.constants.items()}
        build = functools.partial(
            Builder,
            calls=self.analysis.calls,
            root=root,
            constants=constants,
            rules=self.analysis.rules,
            cut=gammas.cut,
            grouped=set(grouped),
            leaves=leaves,
        )
        return root, constants, {key: build(walk, sizes=sizes).build() for key, walk in self.analysis.propagations.items()}

    def _table(self, name: str, tensor: torch.Tensor, sizes: Sizes) -> tuple[torch.Tensor, list[Note]]:
        """A tensor of the reference's code at the member's sizes."""
        shape = tuple(map(sizes.of, self.analysis.parameters.dims[name]))
        if self.spec.constants == "keep":
            return resized(tensor, shape), []
        table, how = fitted(tensor, shape)
        return table, table_notes(name, tensor, shape, how)

    def _learn(self, built: Mapping[int, MemberGraph], gammas: Gammas, heads: Heads) -> bool:
        """Turn every conflict of a run into pins. True if there was any."""
        conflicts = [(key, conflict) for key, result in built.items() for conflict in result.conflicts]
        learned = [self._learn_from(key, conflict, gammas, heads) for key, conflict in conflicts]
        if conflicts and not any(learned):
            node = conflicts[0][1].node
            raise PackError(
                f"{node.meta['path'] or node.name} ({node.meta['source']})",
                found=f"{node.format_node()}: {conflicts[0][1].found}",
                why="the member does not run although every axis of this operator keeps the reference's size",
                fix="please report this call; meanwhile keep the module whole with leaves=[ItsType]",
            )
        return bool(conflicts)

    def _learn_from(self, key: int, conflict: Conflict, gammas: Gammas, heads: Heads) -> bool:
        node, dims = conflict.node, self.analysis.propagations[key].dims
        blamed = {
            layer
            for layer in gammas.cut
            if layer not in self.refused and weight_is_computed(layer) and (layer is node or node in weight_nodes(layer))
        }
        if blamed:
            self.refused |= blamed
            return True
        kept = [atom for parent in (node, *node.all_input_nodes) for dim in flat(dims[parent]) for atom in dim.atoms()]
        blamed_heads = heads.scaled.intersection(kept)
        if blamed_heads:
            why = f"{node.meta['op']} at {node.meta['path'] or node.name} does not fit fewer heads: {conflict.found}"
            self.kept_heads.update(dict.fromkeys(blamed_heads, why))
            return True
        why = f"{node.meta['op']} does not fit a narrower network: {conflict.found}"
        return self.pins.add(kept, Reason(node.meta["path"] or node.name, node.meta["source"], why))

    # -- what is told ------------------------------------------------------------------------------------------------

    def _tell_layers(self, sizes: Sizes, gammas: Gammas) -> tuple[list[LayerWidth], list[Note]]:
        layers: dict[str, LayerWidth] = {}
        lowered: list[Note] = []
        for node, layer in self.analysis.layers.items():
            if layer.name in layers:
                continue
            gamma, note = gammas.of(node), gammas.notes.get(node, "")
            width_in, width_out = layer.width_in.root(), layer.width_out.root()
            layers[layer.name] = LayerWidth(
                layer.name,
                node.meta["op"],
                width_in.size,
                width_out.size,
                sizes.of(width_in),
                sizes.of(width_out),
                layer.groups_in(sizes),
                gamma,
                self.spec.gamma,
                note,
                gammas.cut[node].parts if node in gammas.cut else (),
            )
            if note:
                lowered.append(Note(layer.name, node.meta["source"], f"gamma {self.spec.gamma} -> {gamma}", note))
        return list(layers.values()), lowered

    def _tell_factors(self, heads: Heads, sizes: Sizes) -> tuple[list[Note], list[Note]]:
        """What was done with heads and groups."""
        groups = {layer.name: layer for layer in self.analysis.layers.values() if layer.groups > 1 and layer.whole != DEPTHWISE}
        notes = (group_note(layer, self.spec, sizes) for layer in groups.values())
        return head_notes(heads, self.analysis.roots, self.spec.ratio, sizes), [note for note in notes if note is not None]

    def _tell_widths(self, sizes: Sizes) -> tuple[list[Note], list[Note]]:
        """Pinned and rounded widths, once per width and for the layers that decide it."""
        pinned: list[Note] = []
        rounded: list[Note] = []
        for dim in self.analysis.roots:
            wanted, size = dim.size * self.spec.ratio, sizes.of(dim)
            if not dim.demands or dim.size == 1 or size == wanted:
                continue
            layers = list(dict.fromkeys(dim.demands))
            names = ", ".join(layers) if len(layers) <= 3 else f"{layers[0]} and {len(layers) - 1} more"
            reasons = [reason for atom in dim.atoms() if atom.size > 1 and (reason := self.pins.reason(atom)) is not None]
            reason = min(reasons, key=lambda reason: reason.why == ONE_GROUP, default=None)  # the groups scale unless something else is why
            if size == dim.size and reason is not None:
                why = f"{reason.why} at {reason.node}" if reason.node else reason.why
                pinned.append(Note(names, reason.source, f"width {dim.size} kept", why))
            else:
                rounded.append(_rounded(dim, size, sizes.step(dim), names, f"alpha / M times {dim.size} is {float(wanted):g}"))
        return pinned, rounded


def _rounded(dim: Dim, size: int, step: Step, names: str, why: str) -> Note:
    """A width that is not `alpha / M` times the reference's, with the divisibility that moved it farthest."""
    because = step.because
    if step.count > 1:
        why += f", and it must be made of multiples of {step.count}" + (f": {because.why} at {because.node}" if because else "")
    return Note(names, because.source if because else "", f"width {dim.size} -> {size}", why)
