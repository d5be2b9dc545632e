"""Training in the memory of one member: a forward and a backward pass per member, one member after the other.

    for member in packed.turns():
        criterion(member(x), y).backward()
    optimiser.step()

Members share nothing, so the activations of one are not needed for another. Gradients are added to the packed parameters' ``.grad`` while
the backward pass runs: after the loop they are those of the sum of the members' losses, as after one packed step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from packify.core.errors import PackError
from packify.execution.in_turn import MemberGraph
from packify.execution.member_tensors import NotPlain
from packify.execution.plans import Plans
from packify.nn.packed_network import PackedNetwork


class Turn:
    """One member of a packed network, whose gradients become the packed network's.

    Attributes:
        member: its number.
    """

    def __init__(self, network: PackedNetwork, graph: MemberGraph, member: int) -> None:
        self.member, self._network, self._graph = member, network, graph

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the reference's ``forward`` takes and returns, for this member; inputs are one batch ``"b ..."``, its own or shared.

        Raises:
            PackError: the network's tensors cannot be split here, or the inputs are others than it was packed for.
        """
        try:
            tensors, pairs = self._graph.tensors.leaves(self.member)
        except NotPlain as error:
            raise _refused(
                "its tensors are parts of tensors, or traced", "call the packed network, or run the loop outside of the wrapper"
            ) from error
        if torch.is_grad_enabled():
            for own, packed in pairs:
                own.register_post_accumulate_grad_hook(_Delivery(packed, self._network.num_estimators, self.member))
        inputs = self._network.flat_inputs(args, kwargs)
        return self._network.restructure(list(self._graph.lifted.function(self._graph.body, *inputs, *tensors)))


class _Delivery:
    """Adds the gradient of a member's share, or of a tensor that all share, to the packed gradient as soon as it is there."""

    def __init__(self, packed: Tensor, members: int, member: int) -> None:
        self.packed, self.members, self.member = packed, members, member

    def __call__(self, own: Tensor) -> None:
        gradient, own.grad = own.grad, None
        if gradient is None:
            return
        with torch.no_grad():
            if self.packed.grad is None:
                self.packed.grad = torch.zeros_like(self.packed)
            shared = own.shape == self.packed.shape
            share = self.packed.grad if shared else self.packed.grad.view(self.members, *own.shape)[self.member]
            share.add_(gradient)


def turns_of(network: PackedNetwork, plans: Plans) -> Iterator[Turn]:
    """Every member of `network`, in order; see the head of this file.

    Raises:
        PackError: modules have to be called that a member's own graph does not call.
    """
    reason = network.reason_against_turns()
    if reason:
        raise _refused(reason, "train with one pass for all members: criterion(network(x), targets)")
    reason = plans.whole.reason_against(network)
    if reason:
        raise _refused(
            reason, "remove the hooks, or put all parts into one mode; or train with one packed pass: criterion(packed(x), targets)"
        )
    graph = plans.member_graph(network)
    return iter([Turn(network, graph, member) for member in range(network.num_estimators)])


def _refused(found: str, fix: str) -> PackError:
    return PackError(
        "turns", found=found, why="a turn runs one member's graph on its share of the parameters, past the network's modules", fix=fix
    )
