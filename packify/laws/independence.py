"""The law of independence: no gradient reaches another member's parameters, or its share of any activation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from packify.core.errors import LawBroken
from packify.laws.differentiation import explained
from packify.laws.observation import Batch, Observer, floating, observe
from packify.laws.testbed import twin
from packify.nn.members import split_members
from packify.nn.packed_network import PackedNetwork
from packify.nn.shared_network import SharedNetwork


@dataclass(frozen=True)
class _Place:
    """A tensor whose axis `axis` holds a share of every member."""

    name: str
    what: str
    tensor: Tensor
    axis: int


def measure_independence(network: PackedNetwork, inputs: Batch) -> tuple[float, int]:
    """The largest gradient of a member's output with respect to another member's parameters or share of an activation, and their number.

    Raises:
        LawBroken: a gradient is not exactly zero.
        PackError: the network cannot be differentiated.
    """
    network = twin(network)  # a forward may write to buffers
    for parameter in network.parameters():
        parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
    watch, results = observe(network, inputs)
    outputs = [output for output in floating(list(results)) if output.requires_grad]
    places = _places(network, watch)
    if not outputs or not places:
        return 0.0, 0

    def gradients(member: int, scale: float) -> tuple[Tensor | None, ...]:
        """Of a random sum of one member's outputs."""
        weights = [torch.zeros_like(output) for output in outputs]
        for weight in weights:
            weight[member] = scale * torch.randn_like(weight[member])
        with explained(network, inputs):
            return torch.autograd.grad(outputs, [place.tensor for place in places], weights, retain_graph=True, allow_unused=True)

    for member in range(network.num_estimators):
        silence: tuple[Tensor | None, ...] | None = None
        for index, (place, gradient) in enumerate(zip(places, gradients(member, 1.0), strict=True)):
            if gradient is None:
                continue
            leaks = _leaks(gradient, place, member, network.num_estimators)
            if bool(leaks.isnan().any()):
                # Where nothing is asked for and NaN comes all the same, no member has sent it: the backward pass makes it of zeros.
                silence = silence or gradients(member, 0.0)
                leaks = _leaks(gradient.masked_fill(silence[index].isnan(), 0), place, member, network.num_estimators)  # type: ignore[union-attr]
            if not bool((leaks == 0).all()):
                raise _leaking(place, member, leaks)
    return 0.0, len(places)


def _places(network: PackedNetwork, watch: Observer) -> list[_Place]:
    """Every parameter, and every activation that carries members and depends on one."""
    own = [(name, parameter) for name, parameter in network.named_parameters() if parameter.dim() and _is_own(network, name)]
    places = [_Place(name, f"parameter {name}", parameter, 0) for name, parameter in own]
    for node, value in watch.seen.items():
        axis = node.meta.get("axis")
        if axis is None or node.op == "get_attr" or "val" not in node.meta or not value.requires_grad:
            continue
        if value.dim() > max(axis, 0) and value.shape[max(axis, 0)] % network.num_estimators == 0:
            what = f"activation {node.name} ({node.meta['op']}, {node.meta['source']})"
            places.append(_Place(node.meta["path"] or node.name, what, value, axis))
    return places


def _is_own(network: PackedNetwork, name: str) -> bool:
    """Each member has a share of the parameter: all of them, unless members share weights."""
    return not isinstance(network, SharedNetwork) or name in network.own


def _leaks(gradient: Tensor, place: _Place, member: int, members: int) -> Tensor:
    """``"m"``: the largest gradient in each other member's share."""
    if not gradient.numel():
        return gradient.new_zeros(members)
    shares = split_members(gradient, place.axis, members).abs()
    leaks = shares.amax(tuple(range(1, shares.dim()))) if shares.dim() > 1 else shares.clone()
    leaks[member] = 0
    return leaks


def _leaking(place: _Place, member: int, leaks: Tensor) -> LawBroken:
    return LawBroken(
        place.name,
        found=f"the gradient of member {member}'s output with respect to member {int(leaks.argmax())}'s share "
        f"of {place.what} is {float(leaks.max()):.2e}",
        why="members may not see each other (law of independence)",
        fix="please report this network; meanwhile keep that module whole with leaves=[ItsType]",
    )
