from __future__ import annotations

import pytest
import torch
from torch import nn

import packify
from packify.execution.wholeness import Wholeness
from tests.unit.execution.networks import image, packed_convs


def test_a_network_as_it_was_packed_needs_no_call_of_its_modules() -> None:
    packed = packed_convs()
    assert Wholeness(packed).reason_against(packed) == ""
    packed.register_forward_hook(lambda *_: None)  # the network itself is called all the same
    assert Wholeness(packed).reason_against(packed) == ""


def test_hooks_fire() -> None:
    packed = packed_convs()
    whole = Wholeness(packed)
    handle = packed.get_submodule("1").register_forward_hook(lambda *_: None)
    assert whole.reason_against(packed) == "1 has hooks, which have to fire"
    handle.remove()
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    assert "hooks" in whole.reason_against(packed)
    handle.remove()
    assert whole.reason_against(packed) == ""


def test_what_is_set_on_a_part_is_seen_at_the_next_call() -> None:
    packed = packed_convs()
    whole, part = Wholeness(packed), packed.get_submodule("2")
    for _ in range(2):
        assert whole.reason_against(packed) == ""
        part.forward = lambda x: x.relu()  # type: ignore[method-assign]
        assert "another forward" in whole.reason_against(packed)
        del vars(part)["forward"]
        assert whole.reason_against(packed) == ""
        handle = part.register_full_backward_hook(lambda *_: None)
        assert "hooks" in whole.reason_against(packed)
        assert "hooks" in whole.reason_against(packed)
        handle.remove()
        part.compile(backend="eager")
        assert "compiled" in whole.reason_against(packed)
        part._compiled_call_impl = None


def test_a_network_that_is_as_it_was_is_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = packed_convs()
    whole, looks = Wholeness(packed), []
    own = whole._reason_against
    monkeypatch.setattr(whole, "_reason_against", lambda network: looks.append(network) or own(network))
    for _ in range(3):
        assert whole.reason_against(packed) == ""
    assert len(looks) == 1
    packed.eval()
    assert whole.reason_against(packed) == ""
    packed.body._modules["2"] = nn.ReLU()
    assert "2 is another module" in whole.reason_against(packed)
    assert len(looks) == 2


def test_an_exchanged_module_is_called() -> None:
    packed = packed_convs()
    whole = Wholeness(packed)
    packed.body._modules["2"] = nn.ReLU()
    assert "another module" in whole.reason_against(packed)


def test_a_part_in_another_mode_runs_its_own_graph() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.two(self.one(x) * (2 if self.training else 1))

    packed = packify.pack(Noisy(), torch.randn(2, 4), alpha=2, num_estimators=2).eval()
    assert Wholeness(packed).reason_against(packed) == ""
    packed.get_submodule("one").train()
    assert "one is in another mode" in Wholeness(packed).reason_against(packed)


def test_a_network_with_hooks_gives_the_same_whatever_its_strategy() -> None:
    packed = packed_convs().eval()
    packed.strategy = "in turn"
    expected = packed.members(image())
    packed.get_submodule("1").register_forward_hook(lambda *_: None)
    torch.testing.assert_close(packed.members(image()), expected)
