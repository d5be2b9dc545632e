"""`packed.compile()`: what suits the device, and the network as it is where the compiler fails."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch

from packify.core.errors import CompileWarning
from packify.nn.packed_network import PackedNetwork


def compile_network(network: PackedNetwork, *args: Any, **kwargs: Any) -> None:
    """Let calls of `network` run compiled code; arguments are those of `torch.compile`."""
    state = vars(network)
    state["_compiled_call_impl"] = None
    state["_compiled_call_impl"] = _OrEager(network, torch.compile(network._call_impl, *args, **kwargs))


def strategy_to_compile(network: PackedNetwork, device: torch.device) -> str:
    """How the members of a compiled network run that was given no strategy.

    On a CPU, one after the other: inductor then fuses what is around each member's convs, and oneDNN gets convs without groups. On a GPU
    nothing has been measured yet; inductor gives up its choice of memory formats as soon as a conv has groups, so there too where there
    are any. Members that share weights run in one pass.
    """
    if network.suited_strategies is not None:
        return network.suited_strategies[0]
    grouped = any(getattr(part, "groups", 1) != 1 for part in network.modules() if type(part).__name__.startswith("Conv"))
    return "in turn" if device.type == "cpu" or grouped else "grouped"


class _OrEager:
    """Calls compiled code; the first time that it cannot be compiled, says why and calls the network from then on."""

    def __init__(self, network: PackedNetwork, compiled: Callable[..., Any]) -> None:
        self.network, self.compiled, self.runs = network, compiled, False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.runs:
            return self.compiled(*args, **kwargs)
        try:
            found = self.compiled(*args, **kwargs)
        except torch._dynamo.exc.TorchDynamoException as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            why = f"{type(error).__name__}: {' '.join(lines[:2])}"
            warnings.warn(f"compiling failed, the network runs as it is: {why}", CompileWarning, stacklevel=2)
            vars(self.network)["_compiled_call_impl"] = None
            return self.network._call_impl(*args, **kwargs)  # type: ignore[no-untyped-call]
        self.runs = True
        return found
