"""Masksembles (Durasov et al., CVPR 2021): one network, and for each member a fixed mask on what each layer reads.

Masks are buffers: drawn from a seed, saved, moved and cast with the network, without gradients. Nothing is rescaled. A member alone is a
slim network: the columns of the channels that its masks leave out are cut from every layer, and the channels that then nobody reads where
they are made.
"""

from __future__ import annotations

import torch
from torch import Tensor

from packify.core.method_report import MethodLayer as LayerRow
from packify.core.method_report import MethodReport
from packify.core.method_specs import MasksemblesSpec
from packify.ensembles.methods.building import build
from packify.ensembles.methods.editing import GraphEdit
from packify.ensembles.methods.layers import MethodLayer, Names
from packify.ensembles.methods.masks import MIN_CHANNELS, TOO_NARROW, draw_masks, kept_channels, too_narrow
from packify.ensembles.methods.member import MethodMember, Source, add_tensor, meta_tree
from packify.ensembles.methods.slim_member import MaskSlimmer
from packify.ensembles.methods.treated import Treated, treated_layers
from packify.nn.graph_network import MemberNetwork
from packify.nn.scaling import scale_channels
from packify.nn.shared_network import SharedNetwork


class Masksembles(SharedNetwork):
    """Shared weights, and a mask of each member's own in every layer but the first (``layer1.0.conv2.mask`` is ``"m c"``).

    Attributes:
        slimmer: makes members alone.
    """

    slimmer: MaskSlimmer
    promises = (
        "members(x)[m] is extract(m)(x), a slim network, in evaluation mode, and in training mode where no shared norm takes statistics",
        "a member's output has no gradient for what its masks leave out",
        "masks hold one member after the other on their leading axis, and are no parameters",
        "a saved network, loaded, gives the same outputs; the reference is not changed",
    )
    exceptions = ("training one member alone is not training it in the ensemble: shared weights receive the gradients of all members",)

    def extract(self, member: int) -> MemberNetwork:
        """Member `member` as a slim network of its own, with copies of its weights.

        Raises:
            PackError: there is no such member.
        """
        self.require_member(member)
        return self.slimmer.extract(self, member)

    @property
    def masks(self) -> dict[str, Tensor]:
        """The masks by name, ``"m c"``."""
        return {name: buffer for name, buffer in self.named_buffers() if name in self.added}


def make_masksembles(spec: MasksemblesSpec, source: Source, *, seed: int, inputs: str, average: object) -> Masksembles:
    """The Masksembles of a recorded network, whose trained weights become the shared ones.

    Raises:
        SpecError: a pattern matches no layer, a layer that it names has too few channels, or no layer gets masks.
    """
    member, drawn = _member(spec, source)

    def fill(name: str, tensor: Tensor) -> None:
        tensor.copy_(drawn[name])

    network: Masksembles = build(Masksembles, spec, source, member, inputs=inputs, average=average, fill=fill)
    network.__dict__["slimmer"] = MaskSlimmer(source.rules, source.graphs.tables, drawn)
    network.report.member_params = network.slimmer.params(network)
    return network


def _member(spec: MasksemblesSpec, source: Source) -> tuple[MethodMember, dict[str, Tensor]]:
    """The reference with a mask in every layer that the patterns choose, and the masks of all members."""
    recorded, table, root = source.graphs, source.table, meta_tree(source.graphs)
    treated = treated_layers(source, spec.layers, "masks", lambda layer: _unmasked(layer, spec))
    _require_wide(treated, spec)
    treated.require_some("masks", "masks are on what convs and linears behind the first one read")
    report = MethodReport(spec, left_out=treated.left_out)
    names, drawn = Names(root), dict[str, Tensor]()
    edited = {}
    for key, graph in {id(graph): graph for graph in recorded.graphs.values()}.items():
        edit = GraphEdit(graph, table)
        for layer in treated.of(graph):
            name = names.of(layer, "mask")
            if name not in drawn:
                width = _width(layer, spec)
                drawn[name] = draw_masks(width, spec.num_estimators, spec.scale, spec.seed, layer.name)
                add_tensor(root, name, _mask(layer, spec))
                kept = kept_channels(width, spec.num_estimators, spec.scale)
                report.layers.append(LayerRow(layer.name, layer.kind, layer.width_in, layer.width_out, name, 0, kept))
            _put_mask(edit, layer, spec, name, cut=layer.key in treated.foldable and layer.groups == 1)
        edited[key] = edit.without_unread()
    modes = recorded.graphs.items()
    made = {mode: edited[id(graph)] for mode, graph in modes}
    return MethodMember(root, made, set(drawn), (root, made), report, added=frozenset(drawn)), drawn


def _unmasked(layer: MethodLayer, spec: MasksemblesSpec) -> str:
    """Why a layer gets no mask; empty if it does."""
    if layer.fixed:
        return layer.fixed
    if spec.masked == "outputs" and layer.place.last:
        return "it is a last layer"
    if spec.masked == "inputs" and layer.place.first:
        return "it is a first layer"
    if spec.masked == "inputs" and layer.depthwise:
        return "it is depthwise: what reads a channel of it makes one, so nothing can be cut"
    return f"{_width(layer, spec)} channels are too few for masks: {TOO_NARROW}" if _width(layer, spec) < MIN_CHANNELS else ""


def _require_wide(treated: Treated, spec: MasksemblesSpec) -> None:
    """Layers with few channels stay unmasked, unless they are named, or there are no others.

    Raises:
        SpecError: naming them.
    """
    narrow = {layer.name: _width(layer, spec) for layer in treated.matching if TOO_NARROW in _unmasked(layer, spec)}
    named = {name: width for name, width in narrow.items() if name in spec.layers}
    if named or (narrow and not treated.layers):
        raise too_narrow(list((named or narrow).items()), alone=not (treated.layers or spec.layers))


def _width(layer: MethodLayer, spec: MasksemblesSpec) -> int:
    return layer.width_in if spec.masked == "inputs" else layer.width_out


def _mask(layer: MethodLayer, spec: MasksemblesSpec) -> Tensor:
    return torch.empty((1, _width(layer, spec)), dtype=layer.weight.meta["val"].dtype, device="meta")


def _put_mask(edit: GraphEdit, layer: MethodLayer, spec: MasksemblesSpec, name: str, *, cut: bool) -> None:
    """A mask on what a layer reads, or on what it makes; `cut`: a member alone may leave its columns out."""
    call = edit.nodes[layer.node]
    mask = edit.tensor(name, _mask(layer, spec), call)
    if spec.masked == "outputs":
        edit.call_after(call, call, scale_channels, call, mask, layer.axis)
        return
    data = edit.arguments(call)["input"]
    masked = edit.call_before(call, scale_channels, data, mask, layer.axis, value=layer.input.meta["val"])
    masked.meta["cut"] = cut
    edit.change(call, input=masked)
