"""From what was seen while a network was built to recipes: for every parameter the calls to repeat."""

from __future__ import annotations

import math
import re
import weakref
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from typing import Any

from torch import Tensor, nn

from packify.core.powers import power_laws
from packify.nn.layer_sizes import sizes_by_role
from packify.nn.recipes import Call, Recipe, Step, remember
from packify.sources.fills import ANY_SHAPE, Fill, History, is_whole, storage_of

_EXPONENTS = (-0.5, -1.0, 0.5, -0.25)
# Gains that people write: 1, and those of torch.nn.init for relu, tanh and uniform distributions.
_GAINS = (1.0, math.sqrt(2), math.sqrt(3), math.sqrt(6), math.sqrt(1 / 3), 0.5, 2.0)


# What is written to a tensor: the methods' names and numbers.
Written = list[tuple[str, tuple[Any, ...]]]
# What a call, made on a layer of these sizes without data, writes to one of its tensors.
Rehearse = Callable[[Call, nn.Module, str], Written]


class RecipeBook:
    """Turns what was seen into recipes.

    Args:
        histories: what was written, by storage.
        rehearse: makes a call again, to see that it does what it did.
    """

    def __init__(self, histories: Mapping[int, History], rehearse: Rehearse) -> None:
        self.histories, self.rehearse = histories, rehearse
        self.inner: dict[Recipe, str] = {}
        self._checked: dict[tuple[int, str], Written] = {}

    def write(self, model: nn.Module) -> None:
        """Remember a recipe for every parameter whose calls can be repeated."""
        recipes: dict[nn.Module, dict[str, Recipe]] = {}
        places: list[tuple[Step, dict[str, float]]] = []
        for module in model.modules():
            for attribute, tensor in module._parameters.items():
                history = self.histories.get(storage_of(tensor)) if tensor is not None else None
                if tensor is None or history is None or not history.written or not is_whole(tensor):
                    continue
                steps = self._steps(module, attribute, tensor, history)
                if steps is not None:
                    recipe = recipes.setdefault(module, {})[attribute] = Recipe(weakref.ref(tensor), _version(tensor, history), steps)
                    called = dict.fromkeys(fill.of_tensor or fill.own for fill in history.fills)
                    self.inner[recipe] = ", then ".join(call.words({}) for call in called if call is not None)
                    sizes = sizes_by_role(module, attribute)
                    places += [(step, sizes) for step in steps if not step.call.of_module]
        _find_laws(places)
        _name_inner_calls(recipes, self.inner)
        for module, own in recipes.items():
            remember(module, own)

    def _steps(self, module: nn.Module, attribute: str, tensor: Tensor, history: History) -> list[Step] | None:
        steps: list[Step] = []
        for fill in history.fills:
            call = self._choice(module, attribute, tensor, fill, history)
            if call is None:
                return None
            if not steps or steps[-1].call is not call:
                steps.append(Step(fill.order, call, rows=fill.rows if call is fill.own else None))
        return steps

    def _choice(self, module: nn.Module, attribute: str, tensor: Tensor, fill: Fill, history: History) -> Call | None:
        """The highest call that fills a fresh tensor of this shape in the same way."""
        if fill.of_module is not None:
            call, owner, name = fill.of_module
            held = owner()
            same = held is not None and type(held) is type(module) and name == attribute
            wrote = [(item.name, item.numbers) for item in history.fills if item.of_module is not None and item.of_module[0] is call]
            if same and self._repeats(call, module, attribute, wrote):
                return call
        if fill.of_tensor is not None and fill.rows is None and fill.shape == tuple(tensor.shape):
            wrote = [(item.name, item.numbers) for item in history.fills if item.of_tensor is fill.of_tensor]
            if self._repeats(fill.of_tensor, module, attribute, wrote):
                return fill.of_tensor
        if fill.rows is None:
            return fill.own if fill.name in ANY_SHAPE or fill.shape == tuple(tensor.shape) else None
        rows = tensor.shape[0] * (fill.rows[1] - fill.rows[0]) if tensor.dim() else Fraction(1, 2)
        same = fill.shape == (rows, *tensor.shape[1:]) or (fill.name in ANY_SHAPE and rows.denominator == 1)
        return fill.own if same and tensor.is_contiguous() else None

    def _repeats(self, call: Call, module: nn.Module, attribute: str, wrote: Written) -> bool:
        """Whether the call, made again on empty tensors, does to this tensor what it did then."""
        key = (id(call), attribute)
        if key not in self._checked:
            self._checked[key] = self.rehearse(call, module, attribute)
        return _alike(self._checked[key], wrote)


def _version(tensor: Tensor, history: History) -> int:
    """Of what the recipe gives: what was loaded afterwards is of a later one."""
    return -1 if history.loaded else tensor._version


def _alike(some: Written, others: Written) -> bool:
    return bool(some) and repr(some) == repr(others)


_FEW_WORDS, _DIGITS = 3, 2


def _name_inner_calls(recipes: dict[nn.Module, dict[str, Recipe]], inner: dict[Recipe, str]) -> None:
    """Where a layer's own function calls one or two things on all tensors of a kind, that is what the report says."""
    kinds: dict[tuple[str, str], list[Recipe]] = {}
    for own in recipes.values():
        for attribute, recipe in own.items():
            if all(step.call.of_module for step in recipe.steps):
                kinds.setdefault((recipe.label, attribute), []).append(recipe)
    for alike in kinds.values():
        words = {inner.get(recipe, "") for recipe in alike}
        computed = any(len(number) > _DIGITS for word in words for number in re.findall(r"\.(\d+)(?!e)", word))
        for recipe in alike if len(words) <= _FEW_WORDS and not computed else ():
            recipe.inner = inner.get(recipe, "")


def _find_laws(places: Iterable[tuple[Step, dict[str, float]]]) -> None:
    """Which of the numbers given to calls were computed from a size, judged over all calls from one line."""
    sites: dict[tuple[str, Any], list[tuple[Step, dict[str, float], float]]] = {}
    for step, sizes in places:
        for place, number in step.call.numbers().items():
            sites.setdefault((step.call.site, place), []).append((step, sizes, number))
    for (_, place), items in sites.items():
        numbers = [number for _, _, number in items]
        laws = power_laws(numbers, [sizes for _, sizes, _ in items], _EXPONENTS, _GAINS)
        for (step, _, number), law in zip(items, laws, strict=True):
            if law is not None and not (_is_round(number) and numbers.count(number) == len(numbers)):
                step.laws[place] = law


def _is_round(number: float) -> bool:
    """A number that a person would write: two digits at most."""
    return float(f"{number:.1e}") == number
