"""`packed.compile()`: what suits the device, and the network as it is where the compiler fails."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch

from packify.core.errors import CompileWarning
from packify.execution.freezing import FrozenCalls
from packify.nn.packed_network import PackedNetwork


def compile_network(network: PackedNetwork, device: torch.device, freeze: bool | None, **settings: Any) -> None:
    """Let calls of `network` run compiled code.

    Args:
        network: whose calls are compiled.
        device: where it is.
        freeze: weights are constants of what is compiled for inference on a CPU; None where that is faster.
        settings: arguments of `torch.compile`.
    """
    state = vars(network)
    state["_compiled_call_impl"] = None
    compiled = torch.compile(network._call_impl, **settings)
    freezes = freeze is not False and device.type == "cpu" and settings.get("backend", "inductor") == "inductor"
    frozen = FrozenCalls(network, settings, by_measurement=freeze is None) if freezes else None
    state["_compiled_call_impl"] = _Compiled(network, compiled, frozen)


def strategy_to_compile(network: PackedNetwork, device: torch.device) -> str:
    """How the members of a compiled network run that was given no strategy.

    On a CPU, one after the other: inductor then fuses what is around each member's convs, and oneDNN gets convs without groups; calls with
    little to do run grouped all the same, see `least_batch_in_turn`. On a GPU nothing has been measured yet; inductor gives up its choice
    of memory formats as soon as a conv has groups, so there too where there are any. Members that share weights run in one pass.
    """
    if network.suited_strategies is not None:
        return network.suited_strategies[0]
    grouped = any(getattr(part, "groups", 1) != 1 for part in network.modules() if type(part).__name__.startswith("Conv"))
    return "in turn" if device.type == "cpu" or grouped else "grouped"


class _Compiled:
    """Calls compiled code: with frozen weights while they fit the call, else code that reads the weights, else the network as it is."""

    def __init__(self, network: PackedNetwork, compiled: Callable[..., Any], frozen: FrozenCalls | None) -> None:
        self.network, self.compiled, self.frozen, self.runs = network, compiled, frozen, False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        frozen = self.frozen
        if frozen is None or not frozen.fit():
            if frozen is not None and frozen.by_measurement and self.network.training:
                self.frozen = None  # weights that are trained do not stay
            return self._reading(*args, **kwargs)
        if frozen.held is None:
            return self._first(frozen, args, kwargs)
        if not frozen.held.differs():
            return frozen(*args, **kwargs)
        self.frozen = None
        why = "the weights have changed since they became constants of compiled code"
        warnings.warn(f"{why}; code that reads them runs from now on, until compile() is called again", CompileWarning, stacklevel=2)
        return self._reading(*args, **kwargs)

    def _first(self, frozen: FrozenCalls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The first call that weights may be constants of."""
        self.frozen = outputs = None
        if frozen.by_measurement:
            outputs = self._reading(*args, **kwargs)
            if not self.runs:
                return outputs
        try:
            self.frozen = frozen if not frozen.reason_against() and frozen.win(self.compiled, args, kwargs) else None
        except torch._dynamo.exc.TorchDynamoException as error:
            warnings.warn(f"weights are not frozen: {_short(error)}", CompileWarning, stacklevel=3)
        return outputs if frozen.by_measurement else self(*args, **kwargs)

    def _reading(self, *args: Any, **kwargs: Any) -> Any:
        """A call of code that reads the weights; the first time that it cannot be compiled, says why and lets the network run as it is."""
        if self.runs:
            return self.compiled(*args, **kwargs)
        try:
            found = self.compiled(*args, **kwargs)
        except torch._dynamo.exc.TorchDynamoException as error:
            warnings.warn(f"compiling failed, the network runs as it is: {_short(error)}", CompileWarning, stacklevel=3)
            vars(self.network)["_compiled_call_impl"] = None
            return self.network._call_impl(*args, **kwargs)  # type: ignore[no-untyped-call]
        self.runs = True
        return found


def _short(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])}"
