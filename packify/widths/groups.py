"""Groups of a grouped conv: their number stays and the channels of one shrink, or the other way round."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from packify.core.report import Note
from packify.core.spec import Spec
from packify.widths.assignment import Sizes

if TYPE_CHECKING:
    from packify.widths.analysis import Layer

ONE_GROUP = "channels of one group"
"""Why these stay where the number of groups scales."""
_SLOW_BELOW = 8
"""Channels of a group: with fewer, kernels of grouped convs fall back to slower code."""


def scaled_groups(layers: Iterable[Layer], spec: Spec) -> frozenset[int]:
    """The group counts that scale: with ``groups="scale"`` all that come out whole."""
    if spec.groups == "keep":
        return frozenset()
    counts = {layer.groups for layer in layers if layer.groups > 1 and not layer.is_depthwise}
    return frozenset(count for count in counts if (count * spec.ratio).denominator == 1)


def group_note(layer: Layer, spec: Spec, sizes: Sizes) -> Note | None:
    """What was done with the groups of a layer, where that is worth a word."""
    count, size = layer.groups, layer.width_in.root().size // layer.groups
    scaled, name, source = layer.groups_in(sizes), layer.name, layer.node.meta["source"]
    if scaled != count:
        return Note(name, source, f"{count} groups -> {scaled}, of {size} channels each", f"{count} x {spec.ratio} is whole")
    after = sizes.of(layer.width_in) // count
    what = f"{count} groups of {size} -> {after} channels"
    if spec.groups == "scale":
        why = "its width is kept" if (count * spec.ratio).denominator == 1 else f"{count} x {spec.ratio} is not whole"
        return Note(name, source, what, why) if spec.ratio != 1 else None
    if after >= min(_SLOW_BELOW, size):
        return None
    wanted = count * spec.ratio
    instead = f"{wanted} groups of {size}" if wanted.denominator == 1 else f"nothing else, as {count} x {spec.ratio} is not whole"
    return Note(name, source, what, f'groups of fewer than {_SLOW_BELOW} channels are slow; groups="scale" gives {instead}')
