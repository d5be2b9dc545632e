"""The law of training parity: one step of the packed network is one step of each member."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from packify.core.errors import LawBroken
from packify.laws.differentiation import explained
from packify.laws.equality import compared
from packify.laws.observation import Batch, call, floating, relative
from packify.nn.packed_network import PackedNetwork, member_share


def measure_parity(network: PackedNetwork, inputs: Batch, tolerance: float) -> tuple[float, float]:
    """Largest differences of outputs before, and of tensors after, one step of gradient descent with momentum, packed and alone.

    The packed network's loss is the sum of its members' losses. `network`, in training mode, is trained.

    Raises:
        LawBroken: a difference is more than rounding explains.
        PackError: the network cannot be differentiated.
    """
    equality = parity = 0.0
    singles = [network.extract(member) for member in range(network.num_estimators)]
    packed = inputs.members(network)
    outputs = [floating(call(single, inputs.of(network, member))) for member, single in enumerate(singles)]
    for member, single in enumerate(singles):
        equality = max(equality, compared(network, single, packed, outputs[member], inputs, member, tolerance))
    with explained(network, inputs):
        _step(network, packed)
    own = dict((*network.named_parameters(), *network.named_buffers()))
    for member, single in enumerate(singles):
        _step(single, outputs[member])
        for name, tensor in (*single.named_parameters(), *single.named_buffers()):
            if not tensor.is_floating_point():
                continue
            error = relative(member_share(name, own[name], network.num_estimators, member, tensor.shape), tensor.detach())
            parity = max(parity, error)
            if not error < 10 * tolerance:
                raise _trained_apart(name, member, error)
    return equality, parity


def _trained_apart(name: str, member: int, error: float) -> LawBroken:
    return LawBroken(
        name,
        found=f"after one training step member {member}'s share differs from the member trained alone by {error:.2e} of the largest value",
        why="training the packed network is training each member (law of training parity)",
        fix="please report this network",
    )


def _step(network: nn.Module, outputs: list[Tensor]) -> None:
    outputs = [output for output in outputs if output.requires_grad]
    if not outputs:
        return
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9)
    loss: Tensor = sum(torch.sin(output).pow(2).sum() for output in outputs)  # type: ignore[assignment]
    loss.backward()
    optimiser.step()
