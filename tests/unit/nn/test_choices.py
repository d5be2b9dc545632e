"""Which way each parameter is drawn."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from packify.nn.choices import choose
from packify.nn.schemes import WRITTEN
from packify.sources.observing import observe_build


def _network(seen: bool = True) -> nn.Sequential:
    def build() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(32, 48), nn.LayerNorm(48), nn.Linear(48, 40))

    return observe_build(build) if seen else build()  # type: ignore[return-value]


def _names(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters()]


def _spoilt(model: nn.Sequential) -> nn.Sequential:
    """No weight is as it was drawn any more."""
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight.mul_(torch.rand(len(layer.weight), 1) ** 4)
            layer.bias.mul_(torch.rand(len(layer.bias)) ** 4)
    return model


def test_what_was_seen_is_repeated_while_its_numbers_are_its_own() -> None:
    model = _network()
    choice = choose(model, _names(model), "reference")
    assert choice.recipes.keys() == {"0", "1", "2"}
    assert not choice.schemes
    nn.init.normal_(model[2].weight, std=0.05)
    choice = choose(model, _names(model), "reference")
    assert choice.schemes.keys() == {"2.weight"}
    assert choice.recipes["2"].keys() == {"bias"}
    assert not choice.notes


def test_what_was_not_seen_is_explained_by_its_numbers() -> None:
    model = _network(seen=False)
    choice = choose(model, _names(model), "reference")
    assert not choice.recipes
    assert choice.label("0.weight") == "uniform, variance 1/3 / fan_in"
    assert choice.label("1.weight") == "constant 1"
    assert choice.schemes.keys() == set(_names(model))


def test_a_trained_network_is_drawn_afresh_and_that_is_told() -> None:
    seen, unseen = _spoilt(_network()), _spoilt(_network(seen=False))
    own = choose(seen, _names(seen), "reference")
    assert "its own code" in own.notes[0].what
    assert "0" in own.recipes
    reset = choose(unseen, _names(unseen), "reference")
    assert "own reset" in reset.notes[0].what
    assert sorted(reset.resets["0"]) == ["bias", "weight"]
    assert reset.label("0.weight") == "Linear's own reset"


@pytest.mark.parametrize("seen", [False, True])
def test_what_code_writes_over_a_few_draws_is_kept_and_makes_nothing_trained(seen: bool) -> None:
    def build() -> nn.Sequential:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(32, 32), nn.LayerNorm(32), nn.Linear(32, 40), nn.Linear(8, 4))
        model[0].weight.data.copy_(torch.eye(32))
        for row in range(4):
            model[3].weight.data[row] = -1
            model[3].weight.data[row, row] = 2
        return model

    model = observe_build(build) if seen else build()
    choice = choose(model, _names(model), "reference")
    assert not choice.notes
    assert choice.label("0.weight") == "identity, gain 1"
    assert choice.label("3.weight") == f"copied: {WRITTEN.why}"
    assert ("uniform" in choice.label("2.weight")) is not seen


def test_resets_are_taken_where_they_are_asked_for() -> None:
    model = _network()
    model.append(nn.Module())
    model[3].register_parameter("scale", nn.Parameter(torch.full((4,), 0.5)))
    model[3].register_parameter("positions", nn.Parameter(torch.randn(9, 40) * 0.02))
    choice = choose(model, _names(model), "reset")
    assert choice.resets.keys() == {"0", "1", "2"}
    assert choice.schemes["3.scale"].name == "constant 0.5"
    assert choice.schemes["3.positions"].distribution == "normal"
    assert not choice.notes


def test_orthogonal_weights_and_frozen_ones_are_kept_what_they_are() -> None:
    model = _network(seen=False)
    nn.init.orthogonal_(model[2].weight, 2.0)
    model[0].weight.requires_grad_(False)
    choice = choose(model, _names(model), "reference")
    assert choice.label("2.weight") == "orthogonal, gain 2"
    assert choice.label("0.weight") == "copied: it is frozen"


def test_recipes_that_fail_are_given_up_for_what_the_numbers_show() -> None:
    model = _network()
    choice = choose(model, _names(model), "reference")
    choice.give_up("0", model[0])
    assert "0" not in choice.recipes
    assert choice.label("0.weight") == "uniform, variance 1/3 / fan_in"
    choice.own["2.bias"] = "mine"
    assert choice.label("2.bias") == "mine (a function given as init)"
