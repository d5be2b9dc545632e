"""Every member's output ``"m b ..."`` of a packed network, a single network or a list of networks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils import _pytree

from packify.core.errors import DataError

Network = nn.Module | Sequence[nn.Module]
"""A packed network, any other network (one member), or several networks (a Deep Ensemble)."""

# They hold the network that they train or average, and do not pass `members` on.
_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
# What libraries call the logits among several outputs.
_LOGITS_KEYS = ("logits", "out")


def as_networks(network: Network) -> list[nn.Module]:
    """The networks of an ensemble, packed or not, as a list.

    Raises:
        DataError: it is neither a network nor a list of networks.
    """
    several = isinstance(network, (list, tuple, nn.ModuleList))
    networks = list(network) if several else [network] if isinstance(network, nn.Module) else []  # type: ignore[arg-type] # a Sequence
    networks = [one.module if isinstance(one, _WRAPPERS) else one for one in networks]
    if not networks or not all(isinstance(one, nn.Module) for one in networks):
        raise DataError(
            "network",
            found=f"a {type(network).__name__}",
            why="what is evaluated is a packed network, any other nn.Module, or a list of networks (a Deep Ensemble)",
            fix="pass packify.load(DIR), a network, or [network_1, network_2, ...]",
        )
    return networks


def is_packed(network: object) -> bool:
    """Whether a network holds several members and gives their outputs by ``network.members(...)``."""
    return isinstance(getattr(network, "num_estimators", None), int) and callable(getattr(network, "members", None))


@contextlib.contextmanager
def in_eval_mode(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Networks in evaluation mode; every module's own mode is restored afterwards."""
    modes = [(module, module.training) for network in networks for module in network.modules()]
    try:
        for network in networks:
            network.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training


def member_outputs(networks: Sequence[nn.Module], inputs: Any, output: str | int | None = None) -> Tensor:
    """The outputs of all members of all networks, ``"m b ..."``.

    Args:
        networks: packed or single ones; the members of each follow one another.
        inputs: one input, a tuple of positional arguments, or a dict of keyword arguments; tensors are moved to the network's device.
        output: which output, where there are several: a key or a position.

    Raises:
        DataError: an output that is no tensor, or outputs of different shapes.
    """
    outputs = []
    for network in networks:
        moved = _moved(inputs, network)
        packed = is_packed(network)
        found = select_output(_call(network.members if packed else network, moved), output)
        outputs.append(found if packed else found[None])
    shapes = {tuple(found.shape[1:]) for found in outputs}
    if len(shapes) > 1:
        raise DataError(
            "networks of an ensemble",
            found=f"outputs of shapes {', '.join(map(str, sorted(shapes)))}",
            why="the members' predictions are averaged, so they have one shape",
            fix="pass networks of one task with the same number of classes",
        )
    device = outputs[0].device
    return torch.cat([found.to(device) for found in outputs])


def call_members(networks: Sequence[nn.Module], inputs: Any) -> Any:
    """The members' outputs ``"m b ..."`` of all networks, in the structure that one network gives."""
    outputs = []
    for network in networks:
        packed = is_packed(network)
        found = _call(network.members if packed else network, _moved(inputs, network))
        outputs.append(found if packed else _pytree.tree_map(lambda leaf: leaf[None] if isinstance(leaf, Tensor) else leaf, found))
    if len(outputs) == 1:
        return outputs[0]
    return _pytree.tree_map(lambda *leaves: torch.cat(leaves) if isinstance(leaves[0], Tensor) else leaves[0], *outputs)


def select_output(outputs: Any, output: str | int | None = None) -> Tensor:
    """The one tensor that is evaluated among a network's outputs.

    Args:
        outputs: a tensor, or a tuple, dict or object of several.
        output: a key, an attribute's name or a position. Left out: the only tensor, or what is called ``logits`` or ``out``.

    Raises:
        DataError: there is no such output, or several and none was chosen.
    """
    if isinstance(outputs, Tensor) and output is None:
        return outputs
    names = _named(outputs)
    if output is None:
        tensors = [value for value in names.values() if isinstance(value, Tensor)]
        chosen = tensors[0] if len(tensors) == 1 else next((names[key] for key in _LOGITS_KEYS if key in names), None)
    else:
        chosen = names.get(output)
    if isinstance(chosen, Tensor):
        return chosen
    shown = {name: tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__ for name, value in names.items()}
    raise DataError(
        "the network's output" if output is None else f"output={output!r}",
        found=f"{shown}" if shown else f"a {type(outputs).__name__}",
        why="one tensor of logits is measured, and nothing says which of these it is" if output is None else "no output of that name",
        fix=f"pass output={next(iter(shown))!r}" if shown else "wrap the network so that it returns its logits",
    )


def _named(outputs: Any) -> dict[Any, Any]:
    if isinstance(outputs, Mapping):
        return dict(outputs)
    if isinstance(outputs, (tuple, list)):
        named = dict(enumerate(outputs))
        fields = getattr(outputs, "_fields", ())
        return {**named, **{field: getattr(outputs, field) for field in fields}} if len(named) != 1 else named
    if isinstance(outputs, Tensor):
        return {0: outputs}
    return dict(vars(outputs)) if hasattr(outputs, "__dict__") else {}


def _call(function: Any, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return function(**inputs)
    if isinstance(inputs, tuple):
        return function(*inputs)
    return function(inputs)


def _moved(inputs: Any, network: nn.Module) -> Any:
    tensor = next(iter((*network.parameters(), *network.buffers())), None)
    if tensor is None:
        return inputs
    return _pytree.tree_map(lambda leaf: leaf.to(tensor.device) if isinstance(leaf, Tensor) else leaf, inputs)
