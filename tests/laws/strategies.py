"""Law 14 as a check: under every strategy a network has the same outputs, gradients and buffers."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import packify
from packify.execution.strategies import STRATEGIES
from packify.execution.tuning_parts import parts_to_try
from packify.laws.testbed import make_test_bed, randomise
from tests.laws import checks

OTHERS = [name for name, strategy in STRATEGIES.items() if name != "grouped" and (strategy.device != "cuda" or torch.cuda.is_available())]
FORMATS = (torch.contiguous_format, torch.channels_last)


@dataclass
class Seen:
    """What one call and its backward pass leave behind."""

    outputs: list[Tensor]
    gradients: dict[str, Tensor | None]
    tensors: dict[str, Tensor]


Way = str | dict[str, str]
"""A strategy of a whole network, or those of its parts."""


def choose(network: packify.PackedNetwork, way: Way) -> None:
    """Let a network run in some way."""
    if isinstance(way, str):
        network.strategy = way
    else:
        network.strategy, network.strategies = "grouped", way


def mixed(network: packify.PackedNetwork) -> list[Way]:
    """Every second part in turn, the others grouped, and the other way round; nothing where there are no parts to choose among."""
    parts = parts_to_try(network) if network.num_estimators > 1 else []
    return [dict.fromkeys(chosen, "in turn") for chosen in (parts[::2], parts[1::2]) if chosen]


def seen(network: packify.PackedNetwork, inputs: Any, strategy: Way, memory_format: torch.memory_format) -> Seen:
    """A copy of `network`, run once by a strategy."""
    twin = copy.deepcopy(network)
    choose(twin, strategy)
    for tensor in (*twin.parameters(), *twin.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=memory_format)
    call = twin if twin.training and twin.inputs == "independent" else twin.members
    outputs = checks.leaves(checks.call(call, inputs))
    loss = torch.zeros((), dtype=torch.float64)
    for output in outputs:
        if output.requires_grad:
            pull = torch.linspace(-1, 1, output.numel(), dtype=torch.float64, device=output.device).view(output.shape)
            loss = loss + (output.sin() - pull).square().sum().cpu()
    if loss.requires_grad:
        loss.backward()
    tensors = {name: tensor.detach() for name, tensor in (*twin.named_parameters(), *twin.named_buffers())}
    return Seen(outputs, {name: parameter.grad for name, parameter in twin.named_parameters()}, tensors)


def check_strategies(packed: packify.PackedNetwork, inputs: Any, strategies: list[str] = OTHERS) -> None:
    """Law 14 in both modes, with gradients and without, in both memory formats; nothing about the network tells its strategy."""
    network, inputs = make_test_bed(packed, torch.float64), checks.doubled(inputs)
    torch.manual_seed(0)
    randomise(network)
    network.requires_grad_(True)
    digest = packed.digest
    halves = mixed(network)
    for training in (False, True):
        ways: list[Way] = [*strategies, *halves[training : training + 1]]  # one half in each mode
        network.train(training)
        given = checks.several(inputs, network.num_estimators) if training and network.inputs == "independent" else inputs
        expected = seen(network, given, "grouped", torch.contiguous_format)
        for strategy in ways:
            for memory_format in FORMATS if isinstance(strategy, str) else FORMATS[:1]:
                found = seen(network, given, strategy, memory_format)
                what = f"{strategy}, {memory_format}, {'train' if training else 'eval'}"
                _compare(found, expected, what)
                assert found.tensors.keys() == expected.tensors.keys()
            with torch.no_grad():
                found = seen(network, given, strategy, torch.contiguous_format)
                for mine, theirs in zip(found.outputs, expected.outputs, strict=True):
                    checks.close(mine, theirs.detach(), f"{strategy} without gradients")
            choose(packed, strategy)
            assert packed.digest == digest
    packed.strategy = "auto"


def _compare(found: Seen, expected: Seen, what: str) -> None:
    for index, (mine, theirs) in enumerate(zip(found.outputs, expected.outputs, strict=True)):
        checks.close(mine.detach(), theirs.detach(), f"output {index}, {what}")
    for name, theirs in expected.tensors.items():
        if theirs.is_floating_point():
            checks.close(found.tensors[name], theirs, f"{name}, {what}")
        else:
            assert torch.equal(found.tensors[name], theirs), f"{name}, {what}"
    for name, gradient in expected.gradients.items():
        own = found.gradients[name]
        if gradient is None or own is None:
            assert (gradient is None) == (own is None) or not (gradient if own is None else own).any(), f"gradient of {name}, {what}"
        else:
            checks.close(own, gradient, f"gradient of {name}, {what}", 1e-7, 1e-6)
