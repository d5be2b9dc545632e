"""Recipes from histories written by hand: which call is repeated, and which of its numbers follow a size."""

from __future__ import annotations

import math
import weakref
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from packify.core.powers import PowerLaw
from packify.nn.recipes import SUBJECT, Call, Recipe, recipe_of
from packify.sources.calls import call_of_method
from packify.sources.fills import Fill, History, storage_of
from packify.sources.observing import observe_build
from packify.sources.recipe_book import RecipeBook, Written


def _normal(tensor: Tensor, std: float, site: str = "a.py:1") -> Call:
    return call_of_method(Tensor.normal_, (tensor, 0.0, std), {}, site)


def _fill(tensor: Tensor, own: Call | None, order: int = 1, name: str = "normal_", **more: Any) -> Fill:
    return Fill(**{"order": order, "name": name, "numbers": (0.0, 0.1), "shape": tuple(tensor.shape), "rows": None, "own": own, **more})


def _written(module: nn.Module, histories: dict[str, list[Fill]], rehearsed: Written | None = None, **state: Any) -> RecipeBook:
    known = {storage_of(module.get_parameter(name)): History(fills, **{"written": True, **state}) for name, fills in histories.items()}
    book = RecipeBook(known, lambda *_: rehearsed or [])
    book.write(module)
    return book


def _recipe(module: nn.Module, name: str = "weight") -> Recipe:
    recipe = recipe_of(module, name)
    assert recipe is not None
    return recipe


def test_a_parameter_that_was_written_to_has_a_recipe_and_no_other_has() -> None:
    layer = nn.Linear(8, 4)
    _written(layer, {"weight": [_fill(layer.weight, _normal(layer.weight, 0.1))]})
    assert _recipe(layer).label == "normal_(0, 0.1)"
    assert _recipe(layer).version == layer.weight._version
    assert recipe_of(layer, "bias") is None


def test_memory_that_was_only_allocated_has_none() -> None:
    layer = nn.Linear(8, 4)
    _written(layer, {"weight": []}, written=False)
    assert recipe_of(layer, "weight") is None


def test_a_parameter_that_is_a_part_of_its_memory_has_none() -> None:
    layer = nn.Linear(8, 4)
    layer.weight = nn.Parameter(torch.zeros(8, 8)[4:])
    _written(layer, {"weight": [_fill(layer.weight, _normal(layer.weight, 0.1))]})
    assert recipe_of(layer, "weight") is None


def test_what_was_loaded_afterwards_is_of_a_later_version() -> None:
    layer = nn.Linear(8, 4)
    _written(layer, {"weight": [_fill(layer.weight, _normal(layer.weight, 0.1))]}, loaded=True)
    assert _recipe(layer).version < layer.weight._version


def test_a_call_that_cannot_be_repeated_leaves_no_recipe() -> None:
    layer = nn.Linear(8, 4)
    call = _normal(layer.weight, 0.1)
    _written(layer, {"weight": [_fill(layer.weight, call), _fill(layer.weight, None, 2)]})
    assert recipe_of(layer, "weight") is None


_OUTER = Call(nn.init.xavier_normal_, (SUBJECT,), {}, False, "outer", {})
_RESET = Call(nn.Linear.reset_parameters, (SUBJECT,), {}, True, "Linear.reset_parameters", {})


@pytest.mark.parametrize(
    ("rehearsed", "chosen"),
    [([("normal_", (0.0, 0.1))], "Linear.reset_parameters"), ([("normal_", (0.0, 0.2))], "normal_(0, 0.1)"), ([], "normal_(0, 0.1)")],
)
def test_a_function_around_the_call_is_repeated_if_it_does_the_same_again(rehearsed: Written, chosen: str) -> None:
    layer = nn.Linear(8, 4)
    fill = _fill(layer.weight, _normal(layer.weight, 0.1), of_tensor=_OUTER, of_module=(_RESET, weakref.ref(layer), "weight"))
    book = _written(layer, {"weight": [fill]}, rehearsed)
    recipe = _recipe(layer)
    assert recipe.steps[0].call.words({}) == chosen
    assert book.inner[recipe] == "outer()"


def test_a_function_of_a_layer_is_not_repeated_on_a_layer_of_another_kind_or_for_another_tensor() -> None:
    layer, other = nn.Linear(8, 4), nn.Conv2d(8, 4, 1)
    for owner, name in ((other, "weight"), (layer, "bias")):
        fill = _fill(layer.weight, _normal(layer.weight, 0.1), of_module=(_RESET, weakref.ref(owner), name))
        _written(layer, {"weight": [fill]}, [("normal_", (0.0, 0.1))])
        assert _recipe(layer).steps[0].call.name == "normal_"


def test_one_call_that_filled_in_several_steps_is_one_step() -> None:
    layer = nn.Linear(8, 4)
    fills = [_fill(layer.weight, _normal(layer.weight, 0.1), order, of_tensor=_OUTER) for order in (4, 5)]
    _written(layer, {"weight": fills}, [("normal_", (0.0, 0.1))] * 2)
    assert [(step.order, step.call) for step in _recipe(layer).steps] == [(4, _OUTER)]


def test_a_method_that_depends_on_the_shape_is_repeated_at_its_own_shape_only() -> None:
    for name, shape, is_known in (("erfinv_", (4, 8), True), ("erfinv_", (8, 4), False), ("normal_", (8, 4), True)):
        layer = nn.Linear(8, 4)
        _written(layer, {"weight": [_fill(layer.weight, _normal(layer.weight, 0.1), name=name, shape=shape)]})
        assert (recipe_of(layer, "weight") is not None) is is_known


@pytest.mark.parametrize(("rows", "is_known"), [((Fraction(1, 4), Fraction(1, 2)), True), ((Fraction(1, 3), Fraction(2, 3)), False)])
def test_a_part_is_repeated_where_it_is_made_of_whole_rows(rows: tuple[Fraction, Fraction], is_known: bool) -> None:
    layer = nn.Linear(8, 4)
    _written(layer, {"weight": [_fill(layer.weight, _normal(layer.weight, 0.1), rows=rows, shape=(8,))]})
    recipe = recipe_of(layer, "weight")
    assert (recipe is not None) is is_known
    if recipe is not None:
        assert recipe.steps[0].part_of(torch.arange(8)).tolist() == [2, 3]


def _stack(stds: list[float], widths: list[int], sites: list[str]) -> list[dict[int | str, PowerLaw]]:
    model = nn.Sequential(*(nn.Linear(width, 7, bias=False) for width in widths))
    fills = {
        f"{place}.weight": [_fill(layer.weight, _normal(layer.weight, std, where))]
        for place, (layer, std, where) in enumerate(zip(model, stds, sites, strict=True))
    }
    _written(model, fills)
    return [_recipe(layer).steps[0].laws for layer in model]


def test_a_number_that_one_line_computed_from_a_size_follows_it() -> None:
    laws = _stack([3 / math.sqrt(16), 3 / math.sqrt(100)], [16, 100], ["a.py:1"] * 2)
    assert [str(law[2]) for law in laws] == ["3 * fan_in ** -0.5"] * 2


def test_numbers_of_different_lines_are_not_compared() -> None:
    assert _stack([3 / math.sqrt(16), 3 / math.sqrt(100)], [16, 100], ["a.py:1", "b.py:1"]) == [{}, {}]


def test_one_round_number_for_all_layers_is_a_constant() -> None:
    assert _stack([0.5, 0.5], [16, 16], ["a.py:1"] * 2) == [{}, {}]  # not 2 * fan_in ** -0.5
    assert _stack([0.02, 0.02], [16, 2500], ["a.py:1"] * 2) == [{}, {}]
    # one that nobody writes by hand is a power, also where all layers have one size
    assert [str(law[2]) for law in _stack([90**-0.5] * 2, [90, 90], ["a.py:1"] * 2)] == ["fan_in ** -0.5"] * 2


def test_a_layers_own_function_is_told_by_what_it_calls_where_that_is_one_thing() -> None:
    model = nn.Sequential(*(nn.Linear(width, 7) for width in (8, 16)))
    for layer, stds, wanted in ((model, (0.1, 0.1), "normal_(0, 0.1)"), (model, (0.3535, 0.25), "Linear.reset_parameters")):
        fills = {}
        for place, std in enumerate(stds):
            weight = model[place].weight
            fill = _fill(weight, _normal(weight, std), of_module=(_RESET, weakref.ref(model[place]), "weight"))
            fills[f"{place}.weight"] = [fill]
        _written(layer, fills, [("normal_", (0.0, 0.1))])
        assert [_recipe(one).label for one in model] == [wanted] * 2


@pytest.mark.parametrize("value", [float("-inf"), float("nan")])
def test_a_mask_of_infinities_takes_no_recipe_from_its_neighbours(value: float) -> None:
    def build() -> nn.Module:
        layer = nn.Linear(4, 4)
        nn.init.constant_(layer.bias, value)
        return layer

    layer = observe_build(build)
    assert _recipe(layer).label == "Linear.reset_parameters"
    assert _recipe(layer, "bias").label == f"constant_(val={value})"
