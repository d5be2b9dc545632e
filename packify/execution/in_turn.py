"""Members in turn: the member's own graph, called once per member on views of the packed tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from packify.execution.lifting import Lifted, lift
from packify.execution.member_tensors import MemberTensors
from packify.nn.packed_network import PackedNetwork

Call = Callable[[], tuple[Any, ...]]
Runner = Callable[[Sequence[Call]], list[tuple[Any, ...]]]
"""Runs one call per member and gives their results in order."""


def one_by_one(calls: Sequence[Call]) -> list[tuple[Any, ...]]:
    """One call after the other."""
    return [call() for call in calls]


class MemberGraph:
    """The graph of one mode of a packed network's member, ready to run on packed tensors.

    Args:
        network: the packed network.
        mode: ``"eval"`` or ``"train"``.
    """

    def __init__(self, network: PackedNetwork, mode: str) -> None:
        self.members, self.body = network.num_estimators, network.body
        graph, alone = network.turn_form(mode)
        self.lifted: Lifted = lift(graph, network.body, alone)
        self.tensors = MemberTensors(self.lifted.slots, network.body, self.members)
        self._calls_draw: bool | None = None

    def run(self, inputs: Sequence[Tensor], *, independent: bool = False, runner: Runner = one_by_one) -> tuple[Any, ...]:
        """All members' outputs, flat, ``"m b ..."``.

        Args:
            inputs: of the graph; `independent` ones are ``"(m b) ..."``, one batch per member.
            independent: members have inputs of their own.
            runner: how the members' calls are run.

        Raises:
            NotPlain: the tensors cannot be split here.
        """
        views = self.tensors.views()
        given = self._inputs_of_members(inputs) if independent else [inputs] * self.members
        function, body = self.lifted.function, self.body
        before = torch.get_rng_state() if self._calls_draw is None and not torch.compiler.is_compiling() else None
        calls = [_Call(function, body, own, tensors) for own, tensors in zip(given, views, strict=True)]
        results = runner(calls)
        if before is not None:
            self._calls_draw = not torch.equal(before, torch.get_rng_state())
        return stacked(results)

    def draws(self) -> bool:
        """Whether random numbers are drawn, or may be, whose order several threads would change."""
        drawing = [part for part in self.body.modules() if isinstance(part, _DRAWING) and part.training]
        return self._calls_draw is not False or any(_rate(part) > 0 for part in drawing)

    def _inputs_of_members(self, inputs: Sequence[Tensor]) -> list[list[Tensor]]:
        split = [tensor.unflatten(0, (self.members, -1)).unbind(0) for tensor in inputs]
        return [[shares[member] for shares in split] for member in range(self.members)]


_DRAWING = (nn.modules.dropout._DropoutNd, nn.RNNBase)


def _rate(part: nn.Module) -> float:
    return float(getattr(part, "p", getattr(part, "dropout", 0.0)))


class _Call:
    """One member's forward pass."""

    def __init__(self, function: Callable[..., Any], body: nn.Module, inputs: Sequence[Tensor], tensors: Sequence[Any]) -> None:
        self.function, self.body, self.inputs, self.tensors = function, body, inputs, tensors

    def __call__(self) -> tuple[Any, ...]:
        outputs: tuple[Any, ...] = self.function(self.body, *self.inputs, *self.tensors)
        return outputs


def stacked(results: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    """The members' flat outputs as one, ``"m b ..."``; what is no tensor is the first member's."""
    return tuple(torch.stack(leaves) if isinstance(leaves[0], Tensor) else leaves[0] for leaves in map(list, zip(*results, strict=True)))
