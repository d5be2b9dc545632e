"""What calls give without data: nested arguments on the meta device, or with random numbers where the code needs some."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from packify.capture.shapes import known_result
from packify.capture.symbolic import plain
from packify.core import nested


def recurrent_result(module: nn.RNNBase, sequence: torch.Tensor) -> tuple[Any, Any]:
    """What an RNN, LSTM or GRU returns on a meta tensor: torch would run it step by step."""
    directions = 2 if module.bidirectional else 1
    hidden = module.proj_size or module.hidden_size
    batch = [] if sequence.dim() == 2 else [sequence.size(0 if module.batch_first else 1)]
    state = sequence.new_empty(module.num_layers * directions, *batch, hidden)
    cell = sequence.new_empty(module.num_layers * directions, *batch, module.hidden_size)
    return sequence.new_empty(*sequence.shape[:-1], directions * hidden), (state, cell) if isinstance(module, nn.LSTM) else state


def without_expressions(value: Any) -> Any:
    """Nested arguments with traced numbers as ordinary ones."""
    return nested.map_leaves(value, plain)


def random(value: Any) -> Any:
    """The same arguments with random numbers in every tensor, on the CPU."""

    def change(item: Any) -> Any:
        if not isinstance(item, torch.Tensor):
            return torch.device("cpu") if isinstance(item, torch.device) else plain(item)
        real = torch.zeros(item.shape, dtype=item.dtype)
        return real.normal_() if item.is_floating_point() else real

    return nested.map_leaves(value, change)


def filled(module: nn.Module) -> nn.Module:
    """A copy of a module without data that has some."""
    own = (*module.named_parameters(), *module.named_buffers())
    copied = copy.deepcopy(
        module,
        {id(tensor): nn.Parameter(random(tensor), False) if isinstance(tensor, nn.Parameter) else random(tensor) for _, tensor in own},
    )
    for part in copied.modules():
        vars(part).pop("forward", None)
    return copied


def on_meta(value: Any) -> Any:
    """Nested arguments without data: tensors and devices on the meta device, traced numbers as ordinary ones."""

    def change(item: Any) -> Any:
        if isinstance(item, torch.Tensor) and item.device.type != "meta":
            return item.detach().to("meta")
        if isinstance(item, torch.device):
            return torch.device("meta")
        return plain(item)

    return nested.map_leaves(value, change)


def call_on_meta(name: str, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """What a call of the operator `name` gives without data, whatever device its code names."""
    args, kwargs = on_meta(args), on_meta(kwargs)
    if name in ("cpu", "cuda"):
        return args[0].clone()
    if name == "to":
        args = tuple("meta" if isinstance(item, str) else item for item in args)
    if kwargs.get("device") is not None:
        kwargs["device"] = torch.device("meta")
    known = known_result(function, args, kwargs)
    return function(*args, **kwargs) if known is None else known
