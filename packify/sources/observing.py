"""Watching a network being built: which calls fill which tensor, so that they can be repeated at a member's shapes."""

from __future__ import annotations

import contextlib
import math
import re
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from packify.core.powers import power_laws
from packify.nn.fans import sizes_by_role
from packify.nn.recipes import SUBJECT, Call, Recipe, Step, at_sizes, remember
from packify.sources.calls import call_of_frame, call_of_method, frames, init_frame, is_plain, site, truncated_on_meta

# In-place methods that give every element a new value, whatever was there.
_OVERWRITING = frozenset(
    "uniform_ normal_ fill_ zero_ copy_ constant_ ones_ zeros_ trunc_normal_ kaiming_uniform_ kaiming_normal_ xavier_uniform_"
    " xavier_normal_ bernoulli_ exponential_ log_normal_ cauchy_ geometric_ random_".split()
)
# Methods with an underscore that change no number.
_QUIET = frozenset("requires_grad_ detach_ share_memory_ rename_ retain_grad set_ resize_ squeeze_ unsqueeze_ t_ transpose_".split())
_COPYING = frozenset("clone contiguous to float double half bfloat16 cpu cuda detach alias data requires_grad_".split())
_POINTWISE = frozenset("add sub mul div true_divide neg clamp abs exp log sqrt pow sigmoid tanh".split())
_FRESH: dict[str, tuple[str, tuple[float, ...]]] = {
    "zeros": ("zero_", ()),
    "zeros_like": ("zero_", ()),
    "new_zeros": ("zero_", ()),
    "ones": ("fill_", (1.0,)),
    "ones_like": ("fill_", (1.0,)),
    "new_ones": ("fill_", (1.0,)),
    "randn": ("normal_", (0.0, 1.0)),
    "randn_like": ("normal_", (0.0, 1.0)),
    "rand": ("uniform_", (0.0, 1.0)),
    "rand_like": ("uniform_", (0.0, 1.0)),
}
_EXPONENTS = (-0.5, -1.0, 0.5, -0.25)
# Gains that people write: 1, and those of torch.nn.init for relu, tanh and uniform distributions.
_GAINS = (1.0, math.sqrt(2), math.sqrt(3), math.sqrt(6), math.sqrt(1 / 3), 0.5, 2.0)


@dataclass(eq=False)
class _Fill:
    """One method that wrote to a tensor."""

    order: int
    name: str
    numbers: tuple[Any, ...]
    shape: tuple[int, ...]
    own: Call | None
    of_tensor: Call | None = None
    of_module: tuple[Call, weakref.ref[nn.Module], str] | None = None


@dataclass(eq=False)
class _History:
    """The fills of one storage, from the last that overwrote all of it; `known` is false where something else wrote to it."""

    fills: list[_Fill] = field(default_factory=list)
    written: bool = False


class BuildObserver(TorchFunctionMode):
    """Active while a network is built.

    Args:
        rehearsing: a call is only made to see what it would do: nothing is written, and who called is not looked up.
    """

    def __init__(self, rehearsing: bool = False) -> None:
        super().__init__()
        self.histories: dict[int, _History] = {}
        self.rehearsing = rehearsing
        self._order = 0
        self._init_frame: FrameType | None = None
        self._open: dict[int, tuple[FrameType, Call, Any]] = {}

    def close(self) -> None:
        """Let go of the frames that were looked at."""
        self._open.clear()
        self._init_frame = None

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.rehearsing and _is_fill(getattr(func, "__name__", "")) and "out" not in kwargs:
            result = args[0] if args else kwargs.get("tensor", kwargs.get("input"))
        else:
            result = func(*args, **kwargs)
        with contextlib.suppress(Exception):  # whatever cannot be understood is not known; the build itself must not notice
            self._note(func, args, kwargs, result)
        return result

    def _note(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        name = getattr(func, "__name__", "")
        if name in ("__get__", "__set__", "__delete__") or name in _QUIET:
            return
        if _is_fill(name) or kwargs.get("out") is not None:
            target = kwargs.get("out", args[0] if args else kwargs.get("tensor", kwargs.get("input")))
            for tensor in target if isinstance(target, (tuple, list)) else (target,):
                if isinstance(tensor, Tensor):
                    self._wrote(func, name, tensor, args, kwargs)
            return
        read = {_storage(tensor) for tensor in _tensors((args, kwargs))}
        for tensor in _tensors(result):
            if (key := _storage(tensor)) not in read:
                history = self._made(name, args, kwargs, tensor)
                if history is None:
                    self.histories.pop(key, None)
                else:
                    self.histories[key] = history

    # -- what is written ---------------------------------------------------------------------------------------------

    def _wrote(self, func: Callable[..., Any], name: str, tensor: Tensor, args: Any, kwargs: Any) -> None:
        key = _storage(tensor)
        history = self.histories.setdefault(key, _History())
        frame = init_frame()
        if frame is not None:
            self._initialised(frame, history, tensor)
            return
        others = (*args[1:], *(value for key, value in kwargs.items() if key not in ("tensor", "generator", "out")))
        plain = is_plain(others) and "out" not in kwargs
        own = call_of_method(func, args, kwargs, site()) if plain and _is_whole(tensor) and name != "copy_" else None
        fill = self._fill(name, others if plain else (None,), tensor, own)
        if name in _OVERWRITING and _is_whole(tensor):
            history.fills.clear()
        history.fills.append(fill)
        history.written = True

    def _initialised(self, frame: FrameType, history: _History, tensor: Tensor) -> None:
        """A function of torch.nn.init is one fill, whatever it does inside."""
        filled = frame.f_locals.get("tensor")
        if frame is self._init_frame or not isinstance(filled, Tensor) or _storage(filled) != _storage(tensor):
            return
        self._init_frame = frame
        found = call_of_frame(frame, lambda value: value is filled, ())
        own = found[0] if found is not None else None
        numbers = (*own.args, *own.kwargs.values()) if own is not None else (None,)
        if _is_whole(filled):
            history.fills.clear()
        history.fills.append(self._fill(frame.f_code.co_name, tuple(value for value in numbers if value is not SUBJECT), filled, own))
        history.written = True

    def _fill(self, name: str, numbers: tuple[Any, ...], tensor: Tensor, own: Call | None) -> _Fill:
        self._order += 1
        fill = _Fill(self._order, name, numbers, tuple(tensor.shape), own if own is None or _is_whole(tensor) else None)
        if not self.rehearsing:
            self._look_up(fill, tensor)
        return fill

    def _look_up(self, fill: _Fill, tensor: Tensor) -> None:
        """The outermost functions on the stack that were given nothing but this tensor, or the layer that holds it."""
        key, still_open = _storage(tensor), dict[int, tuple[FrameType, Call, Any]]()
        for frame in frames(_BASE):
            known = self._open.get(id(frame))
            if known is None:
                found = call_of_frame(frame, lambda value: _is_subject(value, key, tensor), tensor.shape)
                known = None if found is None else (frame, *found)
            if known is None:
                continue
            still_open[id(frame)] = known
            _, call, subject = known
            if not _is_subject(subject, key, tensor):
                continue
            if isinstance(subject, nn.Module):
                fill.of_module = (call, weakref.ref(subject), _attribute(subject, key) or "")
            else:
                fill.of_tensor = call
        self._open = still_open

    # -- what is made ------------------------------------------------------------------------------------------------

    def _made(self, name: str, args: Any, kwargs: Any, tensor: Tensor) -> _History | None:
        if name in ("empty", "empty_like", "new_empty", "empty_strided"):
            return _History()
        if name in _FRESH:
            method, numbers = _FRESH[name]
            return self._started(method, numbers, tensor)
        if name in ("full", "full_like", "new_full"):
            value = kwargs.get("fill_value", args[-1] if args else None)
            return self._started("fill_", (value,), tensor) if isinstance(value, (int, float)) else None
        source = next(iter(_tensors((args, kwargs))), None)
        history = None if source is None else self.histories.get(_storage(source))
        if history is None or not history.written or source is None or not _is_whole(source):
            return None
        if name in _COPYING:
            return _History(list(history.fills), True)
        method = name.strip("_").removeprefix("r") if name.startswith("__r") else name.strip("_")
        others = [value for value in (*args, *kwargs.values()) if value is not source]
        if method in _POINTWISE and is_plain(others) and tuple(source.shape) == tuple(tensor.shape) and len(args) + len(kwargs) < 4:
            function = getattr(torch.Tensor, f"{method}_")
            ordered = (source, *(value for value in args if value is not source))
            own = call_of_method(function, ordered, kwargs, site())
            return _History([*history.fills, self._fill(f"{method}_", tuple(others), tensor, own)], True)
        return None

    def _started(self, method: str, numbers: tuple[Any, ...], tensor: Tensor) -> _History:
        own = call_of_method(getattr(torch.Tensor, method), (tensor, *numbers), {}, site())
        return _History([self._fill(method, numbers, tensor, own)], True)


def observe_build(build: Callable[[], nn.Module]) -> nn.Module:
    """The network that `build` builds; how each of its tensors was filled is kept for as long as it lives."""
    observer = BuildObserver()
    with observer, truncated_on_meta():
        model = build()
    observer.close()
    if isinstance(model, nn.Module):
        with contextlib.suppress(Exception):
            _RecipeBook(observer.histories).write(model)
    return model


_BASE = observe_build.__code__


class _RecipeBook:
    """Turns what was seen into recipes."""

    def __init__(self, histories: dict[int, _History]) -> None:
        self.histories = histories
        self.inner: dict[Recipe, str] = {}
        self._checked: dict[tuple[int, str], list[tuple[str, tuple[Any, ...]]]] = {}

    def write(self, model: nn.Module) -> None:
        """Remember a recipe for every parameter whose calls can be repeated."""
        recipes: dict[nn.Module, dict[str, Recipe]] = {}
        places: list[tuple[Step, dict[str, float]]] = []
        for module in model.modules():
            for attribute, tensor in module._parameters.items():
                history = self.histories.get(_storage(tensor)) if tensor is not None else None
                if tensor is None or history is None or not history.written or not _is_whole(tensor):
                    continue
                steps = self._steps(module, attribute, tensor, history)
                if steps is not None:
                    recipe = recipes.setdefault(module, {})[attribute] = Recipe(weakref.ref(tensor), tensor._version, steps)
                    called = dict.fromkeys(fill.of_tensor or fill.own for fill in history.fills)
                    self.inner[recipe] = ", then ".join(call.words({}) for call in called if call is not None)
                    sizes = sizes_by_role(module, attribute)
                    places += [(step, sizes) for step in steps if not step.call.of_module]
        _find_laws(places)
        _name_inner_calls(recipes, self.inner)
        for module, own in recipes.items():
            remember(module, own)

    def _steps(self, module: nn.Module, attribute: str, tensor: Tensor, history: _History) -> list[Step] | None:
        steps: list[Step] = []
        for fill in history.fills:
            call = self._choice(module, attribute, tensor, fill, history)
            if call is None:
                return None
            if not steps or steps[-1].call is not call:
                steps.append(Step(fill.order, call))
        return steps

    def _choice(self, module: nn.Module, attribute: str, tensor: Tensor, fill: _Fill, history: _History) -> Call | None:
        """The highest call that fills a fresh tensor of this shape in the same way."""
        if fill.of_module is not None:
            call, owner, name = fill.of_module
            held = owner()
            same = held is not None and type(held) is type(module) and name == attribute
            wrote = [(item.name, item.numbers) for item in history.fills if item.of_module is not None and item.of_module[0] is call]
            if same and self._repeats(call, module, attribute, wrote):
                return call
        if fill.of_tensor is not None and fill.shape == tuple(tensor.shape):
            wrote = [(item.name, item.numbers) for item in history.fills if item.of_tensor is fill.of_tensor]
            if self._repeats(fill.of_tensor, module, attribute, wrote):
                return fill.of_tensor
        of_any_shape = fill.name.rstrip("_") in _POINTWISE or fill.name in ("uniform_", "normal_", "fill_", "zero_", "constant_")
        return fill.own if of_any_shape or fill.shape == tuple(tensor.shape) else None

    def _repeats(self, call: Call, module: nn.Module, attribute: str, wrote: list[tuple[str, tuple[Any, ...]]]) -> bool:
        """Whether the call, made again on empty tensors, does to this tensor what it did then."""
        key = (id(call), attribute)
        if key not in self._checked:
            self._checked[key] = _written_by(call, module, attribute)
        return _alike(self._checked[key], wrote)


def _written_by(call: Call, module: nn.Module, attribute: str) -> list[tuple[str, tuple[Any, ...]]]:
    shapes = {name: tensor.shape for name, tensor in module._parameters.items() if tensor is not None}
    watch = BuildObserver(rehearsing=True)
    try:
        copy = at_sizes(module, shapes, device="meta")
        subject = copy if call.of_module else copy._parameters[attribute]
        with torch.no_grad(), truncated_on_meta(), watch:
            call(subject)
        tensor = copy._parameters[attribute]
        history = None if tensor is None else watch.histories.get(_storage(tensor))
    except Exception:
        return []
    return [(fill.name, fill.numbers) for fill in history.fills] if history is not None else []


def _alike(some: list[tuple[str, tuple[Any, ...]]], others: list[tuple[str, tuple[Any, ...]]]) -> bool:
    return bool(some) and len(some) == len(others) and all(a[0] == b[0] and repr(a[1]) == repr(b[1]) for a, b in zip(some, others, strict=True))


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


# -- tensors and frames ----------------------------------------------------------------------------------------------


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _is_whole(tensor: Tensor) -> bool:
    return tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))


def _is_fill(name: str) -> bool:
    """A method that writes to its tensor."""
    return (name.endswith("_") and not name.endswith("__") and name not in _QUIET) or name in _AUGMENTED


_AUGMENTED = frozenset("__setitem__ __iadd__ __isub__ __imul__ __itruediv__ __idiv__ __ipow__".split())


def _attribute(module: nn.Module, key: int) -> str | None:
    """The name of the module's own parameter that lies in a storage."""
    return next((name for name, tensor in module._parameters.items() if tensor is not None and _storage(tensor) == key), None)


def _is_subject(value: Any, key: int, tensor: Tensor) -> bool:
    """The tensor that is written to, or a layer that holds it and nothing below."""
    if isinstance(value, Tensor):
        return value is tensor or (_storage(value) == key and _is_whole(value))
    return isinstance(value, nn.Module) and not value._modules and _attribute(value, key) is not None
