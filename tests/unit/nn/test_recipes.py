"""Calls that filled tensors, repeated at other shapes."""

from __future__ import annotations

import copy
import gc
import weakref
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from packify.core.powers import PowerLaw
from packify.nn.recipes import SUBJECT, Call, Recipe, Step, at_sizes, is_resizable, recipe_of, remember, repeat


def _call(function: object, *args: object, of_module: bool = False, **kwargs: object) -> Call:
    told = {index: "" for index, arg in enumerate(args) if arg is not SUBJECT} | {name: name for name in kwargs}
    return Call(function, args, kwargs, of_module, getattr(function, "__name__", ""), told)  # type: ignore[arg-type]


def test_a_call_is_made_on_another_tensor_with_other_numbers() -> None:
    tensor = torch.zeros(3)
    call = Call(torch.nn.init.constant_, (SUBJECT, 2.0), {}, False, "constant_", {1: "val"})
    call(tensor)
    assert tensor.tolist() == [2.0] * 3
    call(tensor, {1: 5.0})
    assert tensor.tolist() == [5.0] * 3
    named = Call(torch.nn.init.constant_, (), {"tensor": SUBJECT, "val": 2.5}, False, "constant_", {"val": "val"})
    named(tensor, {"val": 7.5})
    assert tensor.tolist() == [7.5] * 3
    assert named.words({}) == "constant_(val=2.5)"
    assert named.words({"val": PowerLaw("fan_in", -0.5, 2.0)}) == "constant_(val=2 * fan_in ** -0.5)"


def test_only_fractions_may_follow_a_size() -> None:
    call = _call(print, SUBJECT, 0.5, 2.0, 3, float("inf"), float("nan"), std=0.02, mode="a")
    assert call.numbers() == {1: 0.5, "std": 0.02}


def test_a_part_is_the_same_share_of_any_tensor() -> None:
    step = Step(0, _call(Tensor.zero_, SUBJECT), rows=(Fraction(1, 4), Fraction(1, 2)))
    assert step.part_of(torch.arange(8)).tolist() == [2, 3]
    assert step.part_of(torch.arange(4)).tolist() == [1]
    with pytest.raises(ValueError, match="6 rows"):
        step.part_of(torch.arange(6))
    whole = torch.arange(3)
    assert Step(0, step.call).part_of(whole) is whole


def test_recipes_are_told_once_and_belong_to_the_tensor_that_they_were_seen_of() -> None:
    layer = nn.Linear(4, 4)
    step = Step(0, _call(Tensor.fill_, SUBJECT, 0.5))
    recipe = Recipe(weakref.ref(layer.weight), 0, [step, step])
    assert recipe.label == "fill_(0.5)"
    remember(layer, {"weight": recipe})
    assert recipe_of(layer, "weight") is recipe
    assert recipe_of(layer, "bias") is None
    assert recipe_of(copy.deepcopy(layer), "weight") is None
    layer.weight = nn.Parameter(torch.zeros(4, 4))
    assert recipe_of(layer, "weight") is None
    recipe.inner = "kaiming_uniform_"
    assert recipe.label == "kaiming_uniform_"
    gone = weakref.ref(layer)
    del layer
    gc.collect()
    assert gone() is None


def test_a_layer_at_other_sizes_says_them_and_shares_no_tensor() -> None:
    layer = nn.Conv2d(8, 12, 3, groups=2).half()
    new = at_sizes(layer, {"weight": (6, 2, 3, 3), "bias": (6,)}, groups=2, device="meta")
    assert (new.in_channels, new.out_channels, new.groups) == (4, 6, 2)
    assert (new.weight.dtype, new.weight.device.type) == (torch.float32, "meta")
    assert (layer.in_channels, tuple(layer.weight.shape)) == (8, (12, 4, 3, 3))
    kept = at_sizes(layer, {"bias": (3,)})
    assert kept.weight is layer.weight


@pytest.mark.parametrize(
    ("layer", "resizable"),
    [
        (nn.Linear(8, 8), True),
        (nn.LSTM(8, 8), True),
        (nn.ReLU(), False),
        (nn.Sequential(nn.Linear(8, 8)), False),
        (nn.Embedding(9, 8), True),
    ],
)
def test_layers_of_torchs_are_had_at_any_size(layer: nn.Module, resizable: bool) -> None:
    assert is_resizable(layer) is resizable


def test_a_layer_of_a_users_is_if_nothing_else_in_it_says_a_size() -> None:
    class Own(nn.Linear):
        def __init__(self, width: int, **held: int) -> None:
            super().__init__(width, width)
            vars(self).update(held)

    assert is_resizable(Own(8))
    assert is_resizable(Own(8, heads=2))
    assert not is_resizable(Own(8, size=8))


def test_recipes_are_repeated_in_the_order_of_the_calls_and_a_function_of_the_layer_once() -> None:
    layer = nn.Linear(4, 4)
    done: list[object] = []

    def whole(module: nn.Module) -> None:
        done.append(module)
        nn.init.zeros_(module.weight)  # type: ignore[arg-type]

    reset = _call(whole, SUBJECT, of_module=True)
    scaled = Step(3, _call(Tensor.add_, SUBJECT, 0.5), {1: PowerLaw("fan_in", -1.0, 2.0)})
    recipes = {
        "weight": Recipe(weakref.ref(layer.weight), 0, [Step(1, reset), scaled]),
        "bias": Recipe(weakref.ref(layer.bias), 0, [Step(2, reset), Step(0, _call(Tensor.fill_, SUBJECT, 3.0))]),
    }
    sizes = {name: {"fan_in": 4.0} for name in recipes}
    smaller = {name: {"fan_in": 2.0} for name in recipes}
    new = at_sizes(layer, {"weight": (2, 2), "bias": (2,)})
    repeat(new, recipes, sizes, smaller)
    assert done == [new]
    assert new.weight.unique().tolist() == [1.0]  # 0.5 at a fan-in of 4 is 1 at one of 2
    assert new.bias.tolist() == [3.0, 3.0]
