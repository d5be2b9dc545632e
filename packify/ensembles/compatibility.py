"""Networks that can be the members of one: the same tensors, the same recorded code, the same settings."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx, nn

from packify.capture.functionalise import stored_in
from packify.capture.graphs import MODES, RecordedGraphs
from packify.core.errors import PackError
from packify.nn.code import written
from packify.nn.layer_settings import settings
from packify.nn.packed_network import LAYER_SETTINGS, PackedNetwork
from packify.nn.tree import is_constant

_ONE_CALL = "build all networks by the same call"


def same_tensors(networks: Sequence[nn.Module], unused: frozenset[str] = frozenset()) -> None:
    """Refuse networks whose parameters or buffers, but for the `unused`, differ in name, dtype, shape, or in being trained.

    Raises:
        PackError: naming the first tensor.
    """
    first, *others = (
        {name: _described(tensor) for name, tensor in (*network.named_parameters(), *network.named_buffers()) if name not in unused}
        for network in networks
    )
    for index, tensors in enumerate(others, 1):
        _same(index, "", first, tensors)


def same_code(index: int, other: RecordedGraphs, first: RecordedGraphs) -> None:
    """Refuse a network that computes something else than the first, in either mode.

    Raises:
        PackError: naming the node.
    """
    for mode in MODES:
        for one, two in itertools.zip_longest(_spelled(first.graphs[mode]), _spelled(other.graphs[mode])):
            if one is None or two is None or one[1:] != two[1:]:
                node, ran, runs = (one or two)[0], *("nothing more" if item is None else item[1] for item in (one, two))
                place = f"{node.meta.get('path') or 'forward'} ({node.meta.get('source', 'output')})"
                raise _differ(index, place, f"{runs} where networks[0] runs {ran}")
            if one[0].op == "call_module":
                name = str(one[0].target)
                _same(index, name, *(settings(recorded.root.get_submodule(name)) for recorded in (first, other)))
        if first.outputs[mode] != other.outputs[mode]:
            raise _differ(index, "output", f"{other.outputs[mode]} where networks[0] returns {first.outputs[mode]}")
    for name in sorted(first.constants.keys() & other.constants.keys()):
        tensor, theirs = first.constants[name], other.constants[name]
        if _described(tensor) != _described(theirs) or not _equal(tensor, theirs):
            raise _differ(index, name, "a constant of the code with other values", "register it as a buffer: those may differ")


def same_shared(index: int, other: nn.Module, first: nn.Module, recorded: RecordedGraphs) -> None:
    """Refuse a network that has other values in a buffer that all members share: a single number, or indices.

    Raises:
        PackError: naming the buffer.
    """
    read = {str(node.target) for graph in recorded.graphs.values() for node in graph.find_nodes(op="get_attr")}
    written = {name for graph in recorded.graphs.values() for name in stored_in(graph)}
    theirs = dict(other.named_buffers())
    for name, tensor in first.named_buffers():
        own = name in written or (tensor.dim() and (tensor.is_floating_point() or tensor.is_complex()))
        if name in read and not own and not _equal(tensor, theirs[name]):
            raise _differ(
                index, name, "a buffer with other values, of which one network holds one only", "build all networks with the same values"
            )


def same_members(index: int, other: PackedNetwork, first: PackedNetwork) -> None:
    """Refuse a packed network whose members cannot stand beside those of the first: other tensors, code, settings, dtypes or devices.

    Raises:
        PackError: naming the first difference, with both sides.
    """
    _same(index, "", *({name: _described(tensor) for name, tensor in _of_one_member(packed).items()} for packed in (first, other)))
    for mode in MODES:
        codes = [str(written(packed.member_template.graphs[mode]).src).splitlines() for packed in (first, other)]
        for ours, theirs in itertools.zip_longest(*codes):
            if ours != theirs:
                found = f"{str(theirs).strip()} where networks[0] runs {str(ours).strip()}"
                raise _differ(index, f"{mode} mode", found)
        called = sorted({str(node.target) for node in first.member_template.graphs[mode].find_nodes(op="call_module")})
        for name in called:
            _same(index, name, *(_own_settings(packed, name) for packed in (first, other)))
    if first.interface.outputs != other.interface.outputs or first.averages != other.averages:
        raise _differ(index, "outputs", f"average={other.average!r} where networks[0] has {first.average!r}")
    read = {str(node.target) for graph in first.member_template.graphs.values() for node in graph.find_nodes(op="get_attr")}
    theirs_of = _tensors(other)
    for name, tensor in first.named_buffers():
        shared = not tensor.dim() or is_constant(name)
        if shared and (name in read or _counts(first, name)) and not _equal(tensor, theirs_of[name]):
            raise _differ(index, name, "other values in a buffer that all members share", "train both alike, or keep them apart")


def _own_settings(packed: PackedNetwork, name: str) -> dict[str, str]:
    """A layer's settings without the sizes that follow M."""
    module = packed.get_submodule(name)
    whole = isinstance(module, packed.leaves)
    return {key: text for key, text in settings(module).items() if whole or key.rpartition(".")[2] in LAYER_SETTINGS}


def _counts(packed: PackedNetwork, name: str) -> bool:
    """The number of batches that a norm has seen is part of what it computes: it averages over all of them."""
    path, _, own = name.rpartition(".")
    return own == "num_batches_tracked" and getattr(packed.get_submodule(path), "momentum", 0) is None


def _of_one_member(packed: PackedNetwork) -> dict[str, Tensor]:
    """The first member's share of every tensor, with its flags."""
    own = {}
    for name, tensor in _tensors(packed).items():
        whole = not tensor.dim() or is_constant(name)
        share = tensor.detach() if whole else tensor.detach().narrow(0, 0, tensor.shape[0] // packed.num_estimators)
        own[name] = nn.Parameter(share, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else share
    return own


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return dict((*network.named_parameters(), *network.named_buffers()))


def _equal(one: Tensor, two: Tensor) -> bool:
    return one.is_meta or torch.equal(one, two.to(one.device))


def _spelled(graph: fx.Graph) -> list[tuple[fx.Node, str, str]]:
    """Every node with its call as text, in which nodes are numbers, and with what exactly is called."""
    order = {node: index for index, node in enumerate(graph.nodes)}

    def spelled(node: fx.Node) -> str:
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda parent: f"%{order[parent]}")
        name = node.target if isinstance(node.target, str) else node.meta["op"]
        return f"{name}({', '.join([*map(str, args), *(f'{key}={value}' for key, value in kwargs.items())])})"

    return [(node, spelled(node), f"{node.op} {node.target}") for node in graph.nodes]


def _described(tensor: Tensor) -> str:
    frozen = ", frozen" if isinstance(tensor, nn.Parameter) and not tensor.requires_grad else ""
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}{frozen}{', without data' if tensor.is_meta else ''}"


def _same(index: int, place: str, first: Mapping[str, str], other: Mapping[str, str]) -> None:
    differing = sorted(name for name in first.keys() | other.keys() if first.get(name) != other.get(name))
    if differing:
        name = differing[0]
        more = f", and {len(differing) - 1} more" if len(differing) > 1 else ""
        raise _differ(index, place, f"{name}: {other.get(name, 'none')} where networks[0] has {first.get(name, 'none')}{more}")


def _differ(index: int, place: str, found: str, fix: str = _ONE_CALL) -> PackError:
    where = f"networks[{index}]: {place}" if place else f"networks[{index}]"
    return PackError(where, found=found, why="members of one packed network run one graph and differ in their weights only", fix=fix)
