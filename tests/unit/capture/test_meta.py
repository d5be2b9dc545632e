from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import packify
from packify.capture.graphs import record_graphs


class _Hooked(nn.Module):
    """Hooks that are methods of the network compute what `forward` reads."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.kept: dict[str, Tensor] = {}
        self.first.register_forward_hook(self._double)
        self.second.register_forward_pre_hook(self._plus_one)
        self.second.register_forward_hook(functools.partial(self._keep, "second"))

    def _double(self, _: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return output.relu() * 2

    def _plus_one(self, _: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0] + 1,)

    def _keep(self, name: str, _: nn.Module, inputs: Any, output: Tensor) -> None:
        self.kept[name] = output

    def forward(self, x: Tensor) -> Tensor:
        self.second(self.first(x))
        return self.head(self.kept["second"])


def test_hooks_that_are_methods_of_the_network_are_part_of_it() -> None:
    torch.manual_seed(0)
    networks, x = [_Hooked(), _Hooked()], torch.randn(4, 5)
    packed = packify.pack_members(networks, x)
    assert not networks[0].kept
    torch.testing.assert_close(packed.members(x), torch.stack([network(x) for network in networks]))
    assert packed.report.notes == []
    assert packify.pack(networks[0], x, alpha=2, num_estimators=4).report.notes == []  # it holds tensors with a history now


def test_a_recording_that_misses_a_hook_says_so() -> None:
    class Collecting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.found = nn.Linear(5, 3), []
            self.layer.register_forward_hook(lambda module, inputs, output: self.found.append(output))

        def forward(self, x: Tensor) -> Tensor:
            self.found.clear()
            self.layer(x)
            return self.found[0]

    with pytest.raises(packify.TraceError, match="forward hooks of layer were not run"):
        record_graphs(Collecting(), torch.randn(4, 5))


def test_hooks_that_forward_registers_are_registered_once_per_recording() -> None:
    class Lazy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head, self.ready = nn.Linear(5, 8), nn.Linear(8, 3), False
            self.found: list[Tensor] = []

        def forward(self, x: Tensor) -> Tensor:
            if not self.ready:
                self.layer.register_forward_hook(lambda module, inputs, output: self.found.append(output))
                self.ready = True
            self.found.clear()
            self.layer(x)
            return self.head(torch.cat(self.found))

    torch.manual_seed(0)
    model, x = Lazy(), torch.randn(4, 5)
    torch.testing.assert_close(packify.pack_members([model], x).members(x)[0], model(x))
