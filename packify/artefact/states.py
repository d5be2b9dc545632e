"""Which parameters of a network are frozen, and which of its modules are in another mode than the network itself."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from packify.artefact.tensors import held_tensors
from packify.nn.wrappers import plain_name


def frozen_parameters(network: nn.Module) -> list[str]:
    """The names of the parameters that take no gradient: ``["conv1.weight", ...]``."""
    held = (one for one in held_tensors(network) if isinstance(one.tensor, nn.Parameter))
    return sorted(one.names[0] for one in held if not one.tensor.requires_grad)


def in_other_mode(network: nn.Module) -> list[str]:
    """The names of the modules that are in evaluation mode in a network that trains, or the other way round."""
    modules = network.named_modules(remove_duplicate=False)
    return sorted({plain_name(name) for name, module in modules if module.training != network.training})


def freeze_only(network: nn.Module, frozen: Iterable[str]) -> str:
    """Let the parameters of these names take no gradient, and all others; a name that the network does not have."""
    names = set(frozen)
    for held in held_tensors(network):
        if isinstance(held.tensor, nn.Parameter):
            wanted = held.names[0] not in names
            if held.tensor.requires_grad != wanted:
                held.tensor.requires_grad_(wanted)
            names.discard(held.names[0])
    return min(names, default="")


def set_modes(network: nn.Module, training: bool, others: Iterable[str]) -> str:
    """Put the network in one mode and some of its modules alone in the other; a name that the network does not have."""
    modules = dict(network.train(training).named_modules(remove_duplicate=False))
    unknown = ""
    for name in others:
        if name in modules:
            modules[name].training = not training
        else:
            unknown = name
    return unknown
