"""MIMO (Havasi et al., ICLR 2021): one network that reads M inputs side by side and makes M outputs.

The first layer has M times the input channels: what it makes is the sum of what M layers make of an input each, so its weight is held
as those of M layers, member-major. The last layer makes M outputs of one input. All between is the reference, once. In training each
member reads samples of its own; at test all read the same, which the network repeats itself.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from packify.core.errors import PackError
from packify.core.method_report import MethodLayer as LayerRow
from packify.core.method_report import MethodReport
from packify.core.method_specs import MimoSpec
from packify.ensembles.methods.building import build
from packify.ensembles.methods.editing import GraphEdit
from packify.ensembles.methods.layers import MethodLayer, layers_of, parameters_of
from packify.ensembles.methods.member import MethodMember, Source, meta_tree
from packify.nn.graph_network import MemberNetwork
from packify.nn.scaling import mix_members, shift_channels
from packify.nn.shared_network import SharedNetwork
from packify.training.mimo_batches import mimo_batch

_EMBEDDINGS = frozenset(("embedding", "embedding_bag"))
_LOOK_UPS = _EMBEDDINGS | {"getitem", "index_select", "gather", "take", "take_along_dim"}
_OTHERS = "packify.batch_ensemble and packify.masksembles take this network"


class Mimo(SharedNetwork):
    """One network with M inputs and M outputs: first and last layers are the members' own, ``"(m o) i ..."``, everything else is shared."""

    separable = False
    suited_strategies = ("grouped",)
    promises = (
        "members(x) is what the network makes of x repeated for every member",
        "first and last layers hold one member after the other on their leading axis",
        "a saved network, loaded, gives the same outputs; the reference is not changed",
    )
    exceptions = (
        "members are not separable: every output is computed from all M inputs, so there is no extract(m)",
        "a member's output has gradients for every member's first layer, and for what all share",
        "members' outputs for one input are no independent draws: training with inputs of their own is what makes them differ",
    )

    def extract(self, member: int) -> MemberNetwork:
        """Refused: no member is a network of its own.

        Raises:
            PackError: always.
        """
        raise PackError(
            f"extract({member!r})",
            found="a MIMO network",
            why="its members are not separable: every output is computed from all inputs by the same layers",
            fix="take members(x)[m], or convert the reference with packify.pack or packify.batch_ensemble",
        )

    def training_batch(self, x: object, y: object, *, generator: torch.Generator | None = None) -> tuple[object, object]:
        """`packify.mimo_batch` with the M, rho and batch_repetitions that the network was made with."""
        spec: MimoSpec = self.spec
        return mimo_batch(x, y, spec.num_estimators, spec.rho, spec.batch_repetitions, generator=generator)


def make_mimo(spec: MimoSpec, source: Source, *, seed: int, inputs: str, average: object) -> Mimo:
    """The MIMO network of a recorded network, whose trained weights become those between the first and the last layers.

    First and last layers are drawn: each member gets the reference's values in an order of its own, those of a first layer divided by the
    square root of M, as many inputs are added up.

    Raises:
        PackError: there is no first layer behind which M inputs can be one, or no last layer in front of M outputs.
    """
    member, first = _member(spec, source)
    generator = torch.Generator().manual_seed(seed)

    def start(name: str, reference: Tensor, share: Tensor) -> None:
        if reference.dim() < 2:
            share.copy_(reference)
            return
        order = torch.randperm(reference.numel(), generator=generator).to(reference.device)
        values = reference.flatten()[order].view(share.shape)
        share.copy_(values / spec.num_estimators**0.5 if name in first else values)

    made: Mimo = build(Mimo, spec, source, member, inputs=inputs, average=average, fill=_nothing, start=start)
    return made


def _nothing(name: str, tensor: Tensor) -> None:
    """The method adds no tensors."""


def _member(spec: MimoSpec, source: Source) -> tuple[MethodMember, set[str]]:
    """The reference whose first layers end, and whose last layers begin, what members have of their own; and the first layers' weights."""
    recorded, table = source.graphs, source.table
    report, own, first = MethodReport(spec), set[str](), set[str]()
    edited: dict[int, fx.Graph] = {}
    told: set[str] = set()
    for key, graph in {id(graph): graph for graph in recorded.graphs.values()}.items():
        _require_channels(graph)
        layers = layers_of(graph, recorded.root, table)
        firsts = _first_layers(graph, layers)
        lasts = [layer for layer in layers if layer.place.last and not layer.fixed]
        _require_both(firsts, lasts)
        edit = GraphEdit(graph, table)
        for layer in firsts:
            _mix(edit, layer)
            first |= parameters_of(layer.weight, recorded.root)
        for layer in lasts:
            own |= parameters_of(layer.weight, recorded.root) | parameters_of(layer.bias, recorded.root)
        _draw_once(edit, graph, firsts)
        for layer, what in (*((layer, "inputs") for layer in firsts), *((layer, "outputs") for layer in lasts)):
            if layer.key not in told:
                told.add(layer.key)
                report.layers.append(_row(spec, layer, what, recorded.root))
        edited[key] = edit.without_unread()
    modes = recorded.graphs.items()
    graphs = {mode: edited[id(graph)] for mode, graph in modes}
    plain = {id(graph): GraphEdit(graph, table).graph for graph in recorded.graphs.values()}
    alone = (meta_tree(recorded), {mode: plain[id(graph)] for mode, graph in modes})
    return MethodMember(meta_tree(recorded), graphs, own | first, alone, report), first


def _first_layers(graph: fx.Graph, layers: list[MethodLayer]) -> list[MethodLayer]:
    """The layers that read what is still each member's own: behind them there is one network."""
    known = {layer.node: layer for layer in layers}
    separate: set[fx.Node] = set()
    found = []
    for node in graph.nodes:
        own = node.op == "placeholder" or any(source in separate and _is_tensor(source) for source in node.all_input_nodes)
        layer = known.get(node)
        if layer is not None and layer.input in separate and not layer.fixed:
            found.append(layer)
        elif own:
            separate.add(node)
    return found


def _mix(edit: GraphEdit, layer: MethodLayer) -> None:
    """``W x + b`` of one input becomes ``sum of W_m x_m, + b``."""
    call = edit.nodes[layer.node]
    bias = edit.arguments(call).get("bias")
    if bias is not None:
        edit.change(call, bias=None)
    call.meta["side_by_side"] = True
    last = edit.call_after(call, call, mix_members, call)
    if bias is not None:
        edit.call_after(call, last, shift_channels, last, bias, layer.axis)


def _draw_once(edit: GraphEdit, graph: fx.Graph, firsts: list[MethodLayer]) -> None:
    """Behind the first layers there is one network: what it draws at random, it draws once."""
    behind = {layer.node for layer in firsts}
    for node in graph.nodes:
        if any(source in behind for source in node.all_input_nodes):
            behind.add(node)
            edit.nodes[node].meta["random"] = None


def _row(spec: MimoSpec, layer: MethodLayer, what: str, root: nn.Module) -> LayerRow:
    own = parameters_of(layer.weight, root) | (parameters_of(layer.bias, root) if what == "outputs" else set())
    params = (spec.num_estimators - 1) * sum(root.get_parameter(name).numel() for name in own)
    return LayerRow(layer.name, layer.kind, layer.width_in, layer.width_out, f"{spec.num_estimators} {what}", params)


def _require_channels(graph: fx.Graph) -> None:
    """Whole numbers may be inputs where the network makes real ones of them, as of images of bytes; what it looks up may not, as token ids.

    Raises:
        PackError: something is looked up by an input.
    """
    whole: set[fx.Node] = set()
    for node in graph.nodes:
        read = whole.intersection(node.all_input_nodes)
        if read and node.meta["op"] in _LOOK_UPS and (node.meta["op"] in _EMBEDDINGS or read != {node.args[0]}):
            raise PackError(
                f"{node.meta['path'] or node.name} ({node.meta['source']})",
                found=f"{node.meta['op']} by whole numbers of an input",
                why="MIMO puts inputs side by side as channels of one layer, and numbers that are looked up in a table are no channels",
                fix=_OTHERS,
            )
        value = node.meta["val"]
        if (read or node.op == "placeholder") and isinstance(value, Tensor) and not value.is_floating_point() and not value.is_complex():
            whole.add(node)


def _require_both(firsts: list[MethodLayer], lasts: list[MethodLayer]) -> None:
    both = [layer for layer in firsts if layer in lasts]
    if firsts and lasts and not both:
        return
    where = both[0].name if both else "forward"
    raise PackError(
        where,
        found="a layer that is both the first and the last" if both else f"no {'first' if not firsts else 'last'} conv or linear layer",
        why="MIMO has M inputs in front of a first layer, and M outputs behind a last one, of one network between",
        fix=_OTHERS,
    )


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta["val"], (Tensor, tuple, list))
