"""Some members of a packed network as a packed network, and packed networks as one: to grow an ensemble, or to drop a bad member."""

from __future__ import annotations

import copy
import itertools
import operator
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from packify.core.errors import PackError
from packify.core.spec import Spec
from packify.ensembles.compatibility import same_members
from packify.ensembles.repacking import RuleBook, check_forms, packed_form
from packify.nn.exchange import require_own_parts
from packify.nn.packed_network import LAYER_SETTINGS, PackedNetwork
from packify.nn.shared_network import SharedNetwork
from packify.nn.tree import is_constant
from packify.packing.nesting import Nest


@torch.inference_mode(False)
def part(packed: PackedNetwork, members: Iterable[int]) -> PackedNetwork:
    """Some members of `packed`, in the order given, as a packed network of their own, with copies of their weights.

    A member keeps its width, so alpha shrinks with M. Modes, frozen parameters, dtypes, devices, averages and `inputs` are carried over.

    Args:
        packed: any packed network; it is not changed.
        members: numbers from 0, or from -1 backwards; each at most once.

    Raises:
        PackError: the list is empty, names a member twice or one that there is not, or `packed` is no packed network.
    """
    _require_packed("packed", packed)
    chosen = _numbers(packed, members)
    new = _of_so_many(packed, packed.spec.with_members(len(chosen)))
    _fill(new, [(packed, member) for member in chosen])
    return new


@torch.inference_mode(False)
def join(networks: Iterable[PackedNetwork]) -> PackedNetwork:
    """The members of several packed networks of one architecture and width, in order, as one packed network, with copies of their weights.

    Modes, averages, `inputs` and the report are the first one's.

    Raises:
        PackError: the networks differ in anything but their weights and their M; the error names the first difference and shows both sides.
    """
    given = _packed_networks(networks)
    first = given[0]
    for index, other in enumerate(given[1:], 1):
        same_members(index, other, first)
    new = _of_so_many(first, first.spec.with_members(sum(packed.num_estimators for packed in given)))
    _fill(new, [(packed, member) for packed in given for member in range(packed.num_estimators)])
    return new


def _of_so_many(packed: PackedNetwork, spec: Spec) -> PackedNetwork:
    """An unfilled packed network of the same member with another M."""
    template, book = packed.member_template, packed.repacker
    require_own_parts(packed, "another number of members")
    if not isinstance(book, RuleBook):
        raise PackError("packed", found="a network without operator rules", why="its member is packed once more", fix="pack the reference")
    own = _tensors(packed)
    root, graphs = packed_form(
        template.body,
        template.graphs,
        spec.num_estimators,
        packed.report.layers,
        leaves=packed.leaves,
        table=book.table,
        device_of=lambda name: own[name].device,
    )
    check_forms(graphs.values(), root, spec.num_estimators)
    report = copy.copy(packed.report)
    report.spec = spec
    new = PackedNetwork(
        root,
        {mode: graph.graph for mode, graph in graphs.items()},
        template,
        packed.interface,
        spec=spec,
        report=report,
        average={mode: list(kinds) for mode, kinds in packed.averages.items()},
        inputs=packed.inputs,
        example_inputs=packed.example_inputs,
        batched=packed.batched,
        repacker=book,
        leaves=packed.leaves,
        output_choices=packed.output_choices,
        unused=packed.unused,
        cut=None if packed.cut is None else Nest(packed.cut.calls, spec.num_estimators),
    )
    _match_layers(new, packed)
    report.packed_params = sum(parameter.numel() for parameter in new.parameters())
    return new


def _match_layers(new: PackedNetwork, packed: PackedNetwork) -> None:
    """Modes, and what a user may have changed on a layer."""
    parts = dict(packed.named_modules())
    for name, module in new.named_modules():
        for setting in LAYER_SETTINGS & vars(module).keys():
            setattr(module, setting, getattr(parts[name], setting))


def _fill(new: PackedNetwork, sources: Sequence[tuple[PackedNetwork, int]]) -> None:
    """Copy every tensor member by member; what all members share, and whether a parameter is frozen, comes from the first source."""
    shared = _tensors(sources[0][0])
    states = [_tensors(packed) for packed, _ in sources]
    with torch.no_grad():
        for name, tensor in _tensors(new).items():
            first = shared[name]
            tensor.data = tensor.data.to(first.dtype)
            tensor.requires_grad_(first.requires_grad)
            if tensor.is_meta:
                continue
            if not tensor.dim() or is_constant(name):
                tensor.copy_(first)
                continue
            shares = tensor.chunk(len(sources))
            for share, state, (packed, member) in zip(shares, states, sources, strict=True):
                share.copy_(state[name].chunk(packed.num_estimators)[member])


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return dict((*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)))


def _numbers(packed: PackedNetwork, members: Any) -> list[int]:
    count = packed.num_estimators
    fix = f"pass a list of numbers from 0 to {count - 1}, each once: packify.part(packed, [0])"
    if not isinstance(members, Iterable) or isinstance(members, (str, bytes)):
        raise PackError("members", found=repr(members), why="a part is a list of members", fix=fix)
    found = []
    for member in members:
        try:
            position = -count - 1 if isinstance(member, bool) else operator.index(member)
        except TypeError:
            position = -count - 1
        if not -count <= position < count:
            raise PackError(f"member {member!r}", found=f"{count} members", why="members are numbered from 0", fix=fix)
        found.append(position % count)
    if not found:
        raise PackError("members", found="an empty list", why="an ensemble has at least one member", fix=fix)
    twice = next((one for one, other in itertools.pairwise(sorted(found)) if one == other), None)
    if twice is not None:
        raise PackError("members", found=f"member {twice} twice", why="a member that counts twice adds no diversity", fix=fix)
    return found


def _packed_networks(networks: Any) -> list[PackedNetwork]:
    several = isinstance(networks, Iterable) and not isinstance(networks, nn.Module)
    given = list(networks) if several else []
    for index, packed in enumerate(given):
        _require_packed(f"networks[{index}]", packed)
    if not given:
        raise PackError(
            "networks",
            found="none" if several else f"a {type(networks).__name__}",
            why="packed networks, in a list, are joined to one",
            fix="pass packify.join([first, second])",
        )
    return given


def _require_packed(where: str, packed: Any) -> None:
    if isinstance(packed, SharedNetwork):
        raise PackError(
            where,
            found=f"a {type(packed).__name__}",
            why="its members share weights, so some of them are no network of their own",
            fix="convert the reference once more with another num_estimators, or take one member with extract(m)",
        )
    if not isinstance(packed, PackedNetwork):
        raise PackError(
            where, found=f"a {type(packed).__name__}", why="members are parts of a packed network", fix="pass what packify.pack gave"
        )
