"""The methods by their definitions, without a graph: the reference itself, with hooks that do to its layers what a method says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from packify.laws.observation import call, floating

Change = Callable[[Any, Tensor], Tensor]
LAYERS = (nn.modules.conv._ConvNd, nn.Linear)


def plain(model: nn.Module) -> bool:
    """Whether every layer of a network is a module of its own that is called: attention of torch's own reads its weights itself."""
    return not any(isinstance(module, nn.MultiheadAttention) for module in model.modules())


@contextmanager
def hooked(model: nn.Module, before: Mapping[str, Change], after: Mapping[str, Change]) -> Iterator[None]:
    """Inside, what layers read and make is changed, by their names."""
    handles = [
        model.get_submodule(name).register_forward_pre_hook(lambda layer, args, change=change: (change(layer, args[0]), *args[1:]))
        for name, change in before.items()
    ]
    handles += [
        model.get_submodule(name).register_forward_hook(lambda layer, args, output, change=change: change(layer, output))
        for name, change in after.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def on_channels(layer: Any, values: Tensor) -> Tensor:
    """One number per channel, shaped like the channels of what a layer reads or makes."""
    return values if isinstance(layer, nn.Linear) else values.view(-1, *[1] * (layer.weight.dim() - 2))


def batch_ensemble(model: nn.Module, network: Any, inputs: Any) -> list[list[Tensor]]:
    """Every member's outputs: ``y = s (W (r x)) + b`` in every conv and linear, from the tensors of `network`."""
    held = dict(network.named_parameters())
    names = [name for name, module in model.named_modules() if isinstance(module, LAYERS)]
    found = []
    for member in range(network.num_estimators):

        def before(layer: Any, x: Tensor, name: str, member: int = member) -> Tensor:
            return x * on_channels(layer, held[f"{name}.r"][member])

        def after(layer: Any, y: Tensor, name: str, member: int = member) -> Tensor:
            factors = on_channels(layer, held[f"{name}.s"][member])
            bias = 0 if layer.bias is None else on_channels(layer, layer.bias)
            return (y - bias) * factors + bias

        with hooked(model, _named(before, names), _named(after, names)):
            found.append(_with(model, _tensors_of(member, model, network), inputs))
    return found


def masksembles(model: nn.Module, network: Any, inputs: Any) -> list[list[Tensor]]:
    """Every member's outputs: what masked layers read, times the member's masks."""
    found = []
    for member in range(network.num_estimators):

        def before(layer: Any, x: Tensor, name: str, member: int = member) -> Tensor:
            return x * on_channels(layer, network.masks[f"{name}.mask"][member])

        with hooked(model, _named(before, [name.rpartition(".")[0] for name in network.masks]), {}):
            found.append(_with(model, _tensors_of(member, model, network), inputs))
    return found


def mimo(model: nn.Module, network: Any, inputs: Any) -> list[list[Tensor]]:
    """Every member's outputs for one input that all read: first weights are the sum of the members', last ones the member's."""
    held, count = dict(network.named_parameters()), network.num_estimators
    first = [f"{layer.name}.weight" for layer in network.report.layers if layer.what.endswith("inputs")]
    found = []
    for member in range(count):
        tensors = _tensors_of(member, model, network) | {name: torch.stack(held[name].chunk(count)).sum(0) for name in first}
        found.append(_with(model, tensors, inputs))
    return found


def _named(change: Callable[..., Tensor], names: list[str]) -> dict[str, Change]:
    return {name: lambda layer, x, name=name: change(layer, x, name) for name in names}


def _tensors_of(member: int, model: nn.Module, network: Any) -> dict[str, Tensor]:
    """The reference's parameters by name, as a member has them: shared, or its part of those of all members."""
    held, count = dict(network.named_parameters()), network.num_estimators
    return {
        name: held[name] if held[name].shape == own.shape else held[name].chunk(count)[member].view(own.shape)
        for name, own in model.named_parameters()
    }


def _with(model: nn.Module, tensors: Mapping[str, Tensor], inputs: Any) -> list[Tensor]:
    """The reference's outputs with these parameters."""
    return floating(call(lambda *args, **kwargs: functional_call(model, dict(tensors), args, kwargs), inputs))
