"""BatchEnsemble (Wen, Tran and Ba, ICLR 2020): one network, and for each member two vectors of factors in every layer.

Member m's weight is ``W * (s_m r_m^T)``, a product of rank one with the shared W, so a layer is ``y = s_m * W (r_m * x) + b_m``: the
members are samples of one batch, ``"(m b) ..."``. A layer of C_in and C_out channels gets ``M (C_in + C_out)`` parameters more, and
``(M - 1) C_out`` where it has a bias.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from packify.core.method_report import MethodLayer as LayerRow
from packify.core.method_report import MethodReport
from packify.core.method_specs import BatchEnsembleSpec
from packify.ensembles.methods.building import build
from packify.ensembles.methods.editing import GraphEdit
from packify.ensembles.methods.layers import MethodLayer, Names, parameters_of
from packify.ensembles.methods.member import MethodMember, Source, add_tensor, meta_tree
from packify.ensembles.methods.norms import norm_tensors
from packify.ensembles.methods.treated import treated_layers
from packify.nn.folding import Fold
from packify.nn.scaling import scale_channels, shift_channels
from packify.nn.shared_network import SharedNetwork

_STD = 0.5


class BatchEnsemble(SharedNetwork):
    """Shared weights, and r, s and biases of the members' own (``conv1.r`` and ``conv1.s`` are ``"m c"``)."""

    promises = (
        "members(x)[m] is extract(m)(x) in evaluation mode, and in training mode where no shared norm takes statistics of the batch",
        "a member's output has no gradient for another member's r, s and biases, under the same condition",
        "r, s and biases hold one member after the other on their leading axis",
        "a saved network, loaded, gives the same outputs; the reference is not changed",
    )
    exceptions = ("training one member alone is not training it in the ensemble: shared weights receive the gradients of all members",)

    @property
    def factor_names(self) -> frozenset[str]:
        """The names of all r and s."""
        return self.added


def make_batch_ensemble(spec: BatchEnsembleSpec, source: Source, *, seed: int, inputs: str, average: object) -> BatchEnsemble:
    """The BatchEnsemble of a recorded network, whose trained weights become the shared ones.

    Raises:
        SpecError: a pattern matches no layer, or no layer gets factors.
    """
    member = _member(spec, source)
    generator = torch.Generator().manual_seed(seed)

    def fill(name: str, tensor: Tensor) -> None:
        drawn = torch.randn(tensor.shape, generator=generator) if spec.factors == "normal" else _signs(tensor, generator)
        tensor.copy_(1 + _STD * drawn if spec.factors == "normal" else drawn)

    network: BatchEnsemble = build(BatchEnsemble, spec, source, member, inputs=inputs, average=average, fill=fill)
    network.report.member_params = [sum(tensor.numel() for tensor in network.member_template.parameters())] * spec.num_estimators
    return network


def _signs(tensor: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, tensor.shape, generator=generator).mul_(2).sub_(1).to(tensor.dtype)


def _member(spec: BatchEnsembleSpec, source: Source) -> MethodMember:
    """The reference with factors in every layer that the patterns choose."""
    recorded, table, root, alone = source.graphs, source.table, meta_tree(source.graphs), meta_tree(source.graphs)
    treated = treated_layers(source, spec.layers, "factors", lambda layer: layer.fixed)
    treated.require_some("factors", "members differ by factors in convs and linears")
    report = MethodReport(spec, left_out=treated.left_out)
    names, added = Names(root), set[str]()
    own: set[str] = norm_tensors(recorded, table) if spec.norms == "member" else set()
    folds: dict[str, Fold] = {}
    edited, plain = {}, {}
    for key, graph in {id(graph): graph for graph in recorded.graphs.values()}.items():
        full, rest = GraphEdit(graph, table), GraphEdit(graph, table)
        for layer in treated.of(graph):
            r, s = names.of(layer, "r"), names.of(layer, "s")
            own |= parameters_of(layer.bias, recorded.root)
            if r not in added:
                added |= {r, s}
                for name, width in ((r, layer.width_in), (s, layer.width_out)):
                    add_tensor(root, name, _factors(layer, width))
                    if layer.key not in treated.foldable:
                        add_tensor(alone, name, _factors(layer, width))
                report.layers.append(_row(spec, layer, r, s))
            if layer.key in treated.foldable and layer.parameter is not None:
                folds[_first_name(recorded.root, layer.parameter)] = Fold(r, s, layer.transposed, layer.groups)
            else:
                _put_factors(rest, layer, r, s)
            _put_factors(full, layer, r, s)
        edited[key], plain[key] = full.without_unread(), rest.without_unread()
    modes = recorded.graphs.items()
    return MethodMember(
        root,
        {mode: edited[id(graph)] for mode, graph in modes},
        own | added,
        (alone, {mode: plain[id(graph)] for mode, graph in modes}),
        report,
        folds,
        frozenset(added),
    )


def _put_factors(edit: GraphEdit, layer: MethodLayer, r: str, s: str) -> None:
    """``y = W x + b`` becomes ``y = s * W (r * x) + b``."""
    call = edit.nodes[layer.node]
    given = edit.arguments(call)
    data, bias = given["input"], given.get("bias")
    factors = (edit.tensor(r, _factors(layer, layer.width_in), call), edit.tensor(s, _factors(layer, layer.width_out), call))
    scaled = edit.call_before(call, scale_channels, data, factors[0], layer.axis, value=layer.input.meta["val"])
    edit.change(call, input=scaled, **({} if bias is None else {"bias": None}))
    last = edit.call_after(call, call, scale_channels, call, factors[1], layer.axis)
    if bias is not None:
        edit.call_after(call, last, shift_channels, last, bias, layer.axis)


def _factors(layer: MethodLayer, width: int) -> nn.Parameter:
    return nn.Parameter(torch.empty((1, width), dtype=layer.weight.meta["val"].dtype, device="meta"))


def _row(spec: BatchEnsembleSpec, layer: MethodLayer, r: str, s: str) -> LayerRow:
    members, biased = spec.num_estimators, layer.bias is not None
    params = members * (layer.width_in + layer.width_out) + (members - 1) * layer.width_out * biased
    return LayerRow(layer.name, layer.kind, layer.width_in, layer.width_out, f"{r}, {s}" + (", bias" if biased else ""), params)


def _first_name(root: nn.Module, name: str) -> str:
    """The name that a tensor goes by where it has several."""
    wanted = root.get_parameter(name)
    return next(first for first, tensor in root.named_parameters() if tensor is wanted)
