"""Which channels somebody reads: a masked layer reads those that its mask keeps, everything else reads all that it is given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, fx

from packify.capture.operators import rule_of, traits_of
from packify.nn.scaling import read_channels
from packify.ops import spatial
from packify.widths.analysis import WidthAnalysis, flat
from packify.widths.dims import Atom, Dim, Product, Quotient, Sum
from packify.widths.propagation import WidthPropagation

Kept = dict[Dim, list[int]]
"""The channels that are left of a width, in order, by the width; of those that are not named all are."""

# Each channel is treated alone, and stays where it is.
_BY_CHANNEL = frozenset(
    "batch_norm instance_norm BatchNorm1d BatchNorm2d BatchNorm3d SyncBatchNorm InstanceNorm1d InstanceNorm2d InstanceNorm3d "
    "interpolate".split()
) | frozenset(name for kind in spatial.POOLS for name in spatial.pool_names(kind))
# What only moves axes, or works on others than the channels': a width that comes out as it went in is not touched.
_MOVES = frozenset(
    "flatten reshape permute transpose movedim squeeze unsqueeze contiguous clone detach to cat expand getitem pad "
    "mean sum amax amin std var max min type_as".split()
)


def kept_channels(analysis: WidthAnalysis, masks: Mapping[str, Sequence[int]], whole: Iterable[Dim] = ()) -> Kept:
    """The channels of every width that are read by something.

    Args:
        analysis: of a member's graphs, in which a masked layer reads through `read_channels`.
        masks: by name, the channels that a mask keeps.
        whole: sizes that are known to be read whole.
    """
    read: dict[Dim, set[int]] = {}
    inputs: Kept = {}
    entire = {atom.root() for dim in whole for atom in dim.atoms()}
    for root in analysis.roots:
        compound = isinstance(root, (Product, Quotient))  # the channels of a part are not those of the whole
        entire |= {atom for atom in root.atoms() if compound or atom.pin is not None}
    for propagation in analysis.propagations.values():
        for node in propagation.graph.nodes:
            if node.target is read_channels:
                axis, kept = int(node.args[2]), masks[str(node.args[1].target)]
                inputs[propagation.dims[node][axis].root()] = list(kept)
                _note_reads(propagation.dims[node.args[0]][axis], kept, read)
            else:
                entire |= {atom for dim in _read_whole(node, propagation, analysis) for atom in dim.atoms()}
    made = {dim: sorted(channels or {0}) for dim, channels in read.items() if isinstance(dim, Atom) and dim not in entire | inputs.keys()}
    return {**{dim: kept for dim, kept in made.items() if len(kept) < dim.size}, **inputs}


def positions_left(dim: Dim, kept: Kept) -> list[int] | None:
    """The elements of an axis that are left; None where all are."""
    root = dim.root()
    if root in kept:
        return kept[root]
    if not isinstance(root, Sum) or not any(term in kept for term in root.terms()):
        return None
    found: list[int] = []
    start = 0
    for term in root.terms():
        found += [start + position for position in kept.get(term, range(term.size))]
        start += term.size
    return found


def _note_reads(dim: Dim, kept: Sequence[int], read: dict[Dim, set[int]]) -> None:
    """A masked layer reads these of an axis; of a sum, each term has its part of them."""
    start = 0
    for term in dim.terms():
        own = {position - start for position in kept if start <= position < start + term.size}
        read.setdefault(term, set()).update(own)
        start += term.size


def _read_whole(node: fx.Node, propagation: WidthPropagation, analysis: WidthAnalysis) -> Iterator[Dim]:
    """The sizes of which a node reads every element."""
    dims = propagation.dims
    given = [source for source in node.all_input_nodes if _holds_tensors(source)]
    if node.op in ("placeholder", "get_attr") or (node.op != "output" and not _holds_tensors(node)):
        return
    before = {dim.root() for source in given for dim in flat(dims[source])}
    after = {dim.root() for dim in flat(dims[node])} if node.op != "output" else set[Dim]()
    op, traits = node.meta["op"], traits_of(analysis.rules, node)
    if "layer" in traits:
        if node not in propagation.cuts:  # a depthwise conv treats each channel alone
            layer = analysis.layers[node]
            yield from () if _is_masked(node) else (layer.width_in,)
            yield from (layer.width_in, layer.width_out) if layer.groups > 1 else ()
        return
    if op in _BY_CHANNEL or "pointwise" in traits or _is_method_row(analysis, node):
        return
    if op in _MOVES:
        terms = {term for root in after for term in root.terms()} | after
        yield from (root for root in before if root not in terms)
        sources = {term for root in before for term in root.terms()} | before
        yield from (term for root in after for term in root.terms() if term not in sources)
        return
    yield from before | after


def _is_masked(node: fx.Node) -> bool:
    return any(source.target is read_channels for source in node.all_input_nodes)


def _is_method_row(analysis: WidthAnalysis, node: fx.Node) -> bool:
    rule: Any = rule_of(analysis.rules, node)
    return rule is not None and getattr(rule, "family", "") == "methods"


def _holds_tensors(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), (Tensor, tuple, list)) or node.op == "output"
