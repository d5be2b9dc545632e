from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import packify
from packify.execution.freezing import FrozenCalls, Held, _with_freezing
from tests.unit.execution.networks import convs, image, packed_convs


def _network() -> nn.Module:
    torch.manual_seed(0)
    network = convs().eval().to(memory_format=torch.channels_last)
    network.register_buffer("empty", torch.empty(0))
    network.register_buffer("mask", torch.tensor([True, False]))
    network.register_buffer("none", torch.tensor(float("nan")))
    return network


def _train(network: nn.Module) -> None:
    network(image()).sum().backward()
    torch.optim.SGD(network.parameters(), 0.1).step()


_CHANGES: dict[str, Callable[[Any], Any]] = {
    "a step of training": _train,
    "batch statistics": lambda network: network.train()(image()),
    "a state that is loaded": lambda network: network.load_state_dict({name: one.clone() for name, one in network.state_dict().items()}),
    "a moving average past torch": lambda network: network[0].weight.data.mul_(0.9),
    "numpy": lambda network: network[0].weight.detach().numpy().__imul__(0.9),
    "other memory": lambda network: setattr(network[0].weight, "data", network[0].weight.data.clone()),
    "another dtype": lambda network: network.double(),
    "another parameter": lambda network: setattr(network[0], "weight", nn.Parameter(network[0].weight.detach().clone())),
    "another layer": lambda network: network.__setitem__(0, nn.Conv2d(3, 16, 3, padding=1)),
    "a buffer": lambda network: network.mask.logical_not_(),
    "one number": lambda network: network[10].bias.data.__setitem__(2, 7.0),
}


@pytest.mark.parametrize("change", list(_CHANGES.values()), ids=list(_CHANGES))
def test_a_change_is_noticed(change: Callable[[nn.Module], object]) -> None:
    network = _network()
    held = Held(network)
    assert not held.differs()
    change(network)
    assert held.differs()


def test_what_changes_nothing_is_none() -> None:
    network = _network()
    held = Held(network)
    with torch.no_grad():
        network(image())
    _ = network[0].weight.sum().backward()
    network.zero_grad()
    assert not held.differs()


@pytest.mark.slow
def test_why_weights_are_not_frozen() -> None:
    network = _network()
    calls = FrozenCalls(network, {}, by_measurement=True)
    assert calls.reason_against() == ""
    assert not calls.fit()
    with torch.no_grad():
        assert calls.fit()
        assert not torch.func.vmap(lambda x: x * calls.fit())(torch.ones(2)).any()
    network[1].train()
    assert "training mode" in calls.reason_against()
    network.eval()
    handle = network[0].register_forward_hook(lambda *_: None)
    assert "hooks" in calls.reason_against()
    assert FrozenCalls(network, {}, by_measurement=False).reason_against() == ""
    handle.remove()
    with torch.inference_mode():
        network.register_buffer("counted", torch.zeros(1))
    assert "counted" in calls.reason_against()


def test_settings_keep_what_the_user_gave() -> None:
    found = _with_freezing({"mode": "max-autotune-no-cudagraphs", "options": {"max_autotune": False}, "dynamic": False})
    assert found["options"] == {"max_autotune": False, "coordinate_descent_tuning": True, "freezing": True} | found["options"]
    assert found["options"]["max_autotune"] is False
    assert "mode" not in found
    assert found["dynamic"] is False


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What runs, in order, with a compiler that compiles nothing."""
    ran: list[str] = []

    def compile_nothing(function: Callable[..., Any], **settings: Any) -> Callable[..., Any]:
        name = "frozen" if (settings.get("options") or {}).get("freezing") else "reading"

        def call(*args: Any, **kwargs: Any) -> Any:
            ran.append(name)
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(torch, "compile", compile_nothing)
    return ran


def test_frozen_weights_are_for_inference_and_until_they_change(compiled: list[str]) -> None:
    packed = packed_convs().eval()
    packed.compile(freeze=True)
    packed(image())
    assert compiled == ["reading"]  # with gradients
    with torch.no_grad():
        packed(image())
        packed(image())
        assert set(compiled[1:]) == {"frozen"}
        next(packed.parameters()).mul_(2)
        with pytest.warns(packify.CompileWarning, match="have changed"):
            packed(image())
        compiled.clear()
        packed(image())
    assert compiled == ["reading"]


def test_by_default_they_are_measured_and_not_where_the_network_is_trained(compiled: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("packify.execution.freezing._MEASURED_S", 0.0)
    for least, expected in ((-1e9, "frozen"), (0.999, "reading")):
        monkeypatch.setattr("packify.execution.freezing.LEAST_GAIN", least)
        packed = packed_convs().eval()
        packed.compile()
        state = torch.get_rng_state()
        with torch.no_grad():
            packed(image())
            assert {"reading", "frozen"} == set(compiled)
            assert torch.equal(state, torch.get_rng_state())
            compiled.clear()
            packed(image())
        assert compiled == [expected]
    packed = packed_convs().train()
    packed.compile()
    packed(image())
    compiled.clear()
    with torch.no_grad():
        packed.eval()(image())
    assert compiled == ["reading"]
    packed.compile(freeze=False)
    with torch.no_grad():
        packed(image())
    assert set(compiled) == {"reading"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_compiled_with_frozen_weights_it_gives_the_same_and_the_new_numbers_of_new_weights() -> None:
    packed = packed_convs(num_estimators=2).eval()
    other = packed_convs(num_estimators=2).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.1)
        expected, then = packed(image()), other(image())
        packed.compile(freeze=True)
        torch.testing.assert_close(packed(image()), expected)
        assert vars(packed)["_compiled_call_impl"].frozen is not None
        packed.load_state_dict(other.state_dict())
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.testing.assert_close(packed(image()), then)
    assert any(issubclass(one.category, packify.CompileWarning) for one in caught)
