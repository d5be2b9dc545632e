"""The gamma of every layer in one configuration, and the parts of its output that gamma cuts each."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from torch import fx

from packify.core.errors import SpecError
from packify.core.spec import Spec
from packify.nn.subgroups import Subgroups
from packify.widths.analysis import COMPUTED, Layer, WidthAnalysis
from packify.widths.assignment import Pins, Sizes, Step
from packify.widths.dims import Dim, Reason
from packify.widths.gamma import gamma_for
from packify.widths.parts import PartFinder, divisible
from packify.widths.weights import piece_of


@dataclass
class Gammas:
    """How gamma cuts the layers that it cuts, by node and by weight, and why others have less than asked."""

    cut: dict[fx.Node, Subgroups] = field(default_factory=dict)
    notes: dict[fx.Node, str] = field(default_factory=dict)
    weights: dict[str, Subgroups] = field(default_factory=dict)

    def of(self, node: fx.Node) -> int:
        """A layer's gamma."""
        return self.cut[node].gamma if node in self.cut else 1


def choose_gammas(analysis: WidthAnalysis, spec: Spec, sizes: Sizes, pins: Pins, refused: Collection[fx.Node]) -> Gammas:
    """How gamma cuts each layer.

    Args:
        analysis: of the recording.
        spec: alpha, M, gamma and the policy.
        sizes: the member's.
        pins: what keeps the reference's size.
        refused: layers whose weights' making did not fit fewer inputs.

    Raises:
        SpecError: gamma is larger than any hidden width.
    """
    if spec.gamma == 1:
        return Gammas()
    _check_gamma(analysis, spec)
    finders = {gamma: PartFinder(analysis.roots, sizes, pins, gamma) for gamma in range(2, spec.gamma + 1)}
    wanted, notes = dict[fx.Node, int](), dict[fx.Node, str]()

    for node, layer in analysis.layers.items():
        groups = layer.groups_in(sizes)

        def can_cut(gamma: int, width: Dim = layer.width_out, groups: int = groups) -> bool:
            return finders[gamma].parts(width, groups) is not None

        if layer.whole or node in refused:
            gamma, note = 1, COMPUTED if node in refused else layer.whole
        else:
            gamma, note = gamma_for(spec, layer.place, sizes.of(layer.width_in), groups, can_cut)
        wanted[node] = gamma
        if note:
            notes[node] = note
    common = agreed({node: gamma for node, gamma in wanted.items() if gamma > 1}, analysis.layers)
    lost = {node: "its weight is used otherwise by another layer or mode" for node, gamma in wanted.items() if common.get(node, 1) < gamma}
    cut = {node: _subgroups(analysis.layers[node], gamma, finders[gamma], sizes) for node, gamma in common.items()}
    return Gammas(cut, {**lost, **notes}, _by_weight(cut, analysis.layers, sizes))


def _by_weight(cut: Mapping[fx.Node, Subgroups], layers: Mapping[fx.Node, Layer], sizes: Sizes) -> dict[str, Subgroups]:
    """How gamma cuts each weight. Where layers read its pieces, it is a fused one whose pieces are parts, or made of some."""
    found: dict[str, Subgroups] = {}
    pieces: dict[str, dict[int, tuple[int, ...]]] = {}
    for node, own in cut.items():
        piece, weight = piece_of(node), layers[node].weight
        if weight is not None and piece is None:
            found[weight] = own
        elif weight is not None and piece is not None:
            pieces.setdefault(weight, {})[piece[1]] = own.parts or (sizes.of(layers[node].width_out),)
            parts = tuple(itertools.chain.from_iterable(parts for _, parts in sorted(pieces[weight].items())))
            found[weight] = Subgroups(own.groups, own.gamma, parts)
    return found


def _subgroups(layer: Layer, gamma: int, finder: PartFinder, sizes: Sizes) -> Subgroups:
    groups = layer.groups_in(sizes)
    parts = finder.parts(layer.width_out, groups) or ()
    return Subgroups(groups, gamma, parts if len(parts) > 1 else ())


def agreed(gammas: Mapping[fx.Node, int], layers: Mapping[fx.Node, Layer]) -> dict[fx.Node, int]:
    """One gamma per weight over the graphs of all modes: the largest that divides what every graph would use."""
    by_weight: dict[str, list[int]] = {}
    for node, layer in layers.items():
        for read in layer.sources:
            by_weight.setdefault(read, []).append(gammas.get(node, 1) if layer.weight is not None else 1)
    common = {name: math.gcd(*values) if len(set(values)) > 1 else values[0] for name, values in by_weight.items()}
    return {node: common[name] for node in gammas if (name := layers[node].weight) is not None and common[name] > 1}


def asked_of_widths(analysis: WidthAnalysis, spec: Spec) -> dict[Dim, Step]:
    """What the ``uniform`` policy asks widths to be multiples of, so that gamma cuts every inner layer."""
    asked: dict[Dim, Step] = {}
    for layer in analysis.layers.values():
        if not layer.is_inner or layer.groups > 1:
            continue
        for width, count in ((layer.width_in.root(), spec.gamma), *divisible(layer.width_out, spec.gamma)):
            if width.size * spec.ratio >= count:
                known = asked.get(width, Step(width.multiple, width.because))
                asked[width] = known.and_of(count, Reason(layer.name, "", "gamma subgroups"))
    return asked


def _check_gamma(analysis: WidthAnalysis, spec: Spec) -> None:
    inner = [layer.width_in.root().size for layer in analysis.layers.values() if layer.is_inner]
    widest = max(1.0, *(float(size * spec.ratio) for size in inner)) if inner else math.inf
    if spec.gamma > widest:
        raise SpecError(
            f"gamma={spec.gamma}",
            found=f"the widest hidden layer of a member has {widest:g} input channels",
            why="gamma groups need at least one channel each, so this gamma can never divide a layer",
            fix=f"pass gamma={2 if widest >= 2 else 1}, a larger alpha or a smaller num_estimators",
        )
