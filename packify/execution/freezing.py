"""Compiled code with the weights inside, as constants that the compiler folds and lays out for its kernels; until they change.

Such code goes on giving the numbers of the weights that it was made with. So before every call the network is compared with what it held
then, and where anything differs the code is not used again. That costs some microseconds, about half of one for a tensor.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from packify.execution.measuring import measure_by_turns
from packify.execution.member_tensors import is_watched
from packify.execution.tuning_parts import LEAST_GAIN
from packify.nn.wrappers import has_forward_hooks

_MEASURED_S = 2.0
_PLAIN = (Tensor, nn.Parameter)


class Held:
    """What a network held when its weights became constants.

    A change is noticed by the tensors that modules hold, by where these lie in memory, by the versions that torch counts, and by three
    numbers of each: only what is written past torch (``weight.data[3] = 0``, through numpy) to other numbers than these is not seen.

    Args:
        network: as it is now, on a CPU.
    """

    def __init__(self, network: nn.Module) -> None:
        parts = list(network.modules())
        holders = [held for part in parts for held in (part._parameters, part._buffers, part._modules)]
        self._places = [(held, name, one) for held in holders for name, one in held.items()]
        self._tensors = list({id(one): one for _, _, one in self._places if isinstance(one, Tensor)}.values())
        self._stamps = self._stamps_now()
        self._samples = _samples(self._tensors)
        self._numbers = self._numbers_now()

    def differs(self) -> bool:
        """Whether the network holds anything else now."""
        if any(held.get(name) is not one for held, name, one in self._places) or self._stamps_now() != self._stamps:
            return True
        return not all(map(torch.equal, self._numbers_now(), self._numbers))

    def _stamps_now(self) -> list[tuple[int, int]]:
        return [(tensor._version, tensor.data_ptr()) for tensor in self._tensors]

    def _numbers_now(self) -> list[Tensor]:
        """As bytes, for numbers that are none are not equal to themselves."""
        return [torch.cat(group).view(torch.uint8) for group in self._samples]


def _samples(tensors: list[Tensor]) -> list[list[Tensor]]:
    """The first, middle and last number that each tensor has in memory, as views, by dtype."""
    groups: defaultdict[torch.dtype, list[Tensor]] = defaultdict(list)
    for tensor in tensors:
        if tensor.numel():
            last = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
            shape, steps = ((3,), (last // 2,)) if last > 1 else ((1,), (1,))
            groups[tensor.dtype].append(tensor.detach().as_strided(shape, steps, tensor.storage_offset()))
    return list(groups.values())


class FrozenCalls:
    """Calls of code that is compiled for inference with the network's weights as they are at the first call.

    Args:
        network: whose calls these are.
        settings: of `torch.compile`, with its own compiler.
        by_measurement: used only where it is faster than code that reads the weights.
    """

    def __init__(self, network: nn.Module, settings: Mapping[str, Any], *, by_measurement: bool) -> None:
        self.network, self.by_measurement = network, by_measurement
        self.held: Held | None = None
        self._compiled = torch.compile(network._call_impl, **_with_freezing(settings))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with torch._inductor.config.patch(freezing=True):
            return self._compiled(*args, **kwargs)

    def fit(self) -> bool:
        """Whether the call is one that weights may be constants of: nothing is trained, and nothing follows it."""
        return not (self.network.training or torch.is_grad_enabled() or is_watched())

    def reason_against(self) -> str:
        """Why the network's weights cannot be constants; empty where they can."""
        parts = list(self.network.modules())
        tensors = [*self.network.parameters(), *self.network.buffers()]
        if any(part.training for part in parts):
            return "a part of it is in training mode"
        if any(type(tensor) not in _PLAIN or tensor.is_inference() or tensor.device.type != "cpu" for tensor in tensors):
            return "its tensors are no plain ones on a CPU, whose changes are counted"
        hooks = torch_module._has_any_global_hook() or any(map(has_forward_hooks, parts))
        return "hooks would fire while it is measured" if self.by_measurement and hooks else ""

    def win(self, others: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Compile, and tell whether these calls are to be used rather than others: always, or where they are faster by more than chance."""
        held = Held(self.network)
        with torch.random.fork_rng(devices=[]):
            self(*args, **kwargs)
            if held.differs():  # its evaluation writes to its own tensors
                return False
            self.held = held
            if not self.by_measurement:
                return True
            ways = {"others": lambda: others(*args, **kwargs), "own": lambda: held.differs() or self(*args, **kwargs)}
            timings = measure_by_turns(ways, device=torch.device("cpu"), budget_s=_MEASURED_S)
        return timings["own"].median < (1 - LEAST_GAIN) * timings["others"].median


def _with_freezing(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of `torch.compile`, in which a mode is written out as the options that it stands for."""
    mode = settings.get("mode") or "default"
    of_mode = {} if mode == "default" else torch._inductor.list_mode_options(mode, settings.get("dynamic"))
    options = {**of_mode, **(settings.get("options") or {}), "freezing": True}
    return {name: value for name, value in settings.items() if name != "mode"} | {"options": options}
