"""Watching a network being built: which calls fill which tensor, so that they can be repeated at a member's shapes."""

from __future__ import annotations

import contextlib
import io
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode

from packify.nn.recipes import SUBJECT, Call, at_sizes
from packify.sources.calls import call_of_frame, call_of_method, frames, init_frame, is_plain, site, truncated_on_meta
from packify.sources.fills import (
    POINTWISE,
    QUIET,
    Fill,
    History,
    attribute_of,
    is_subject,
    is_whole,
    part_of,
    storage_of,
    tensors_in,
    writes,
)
from packify.sources.recipe_book import RecipeBook, Written

# In-place methods that give every element a new value, whatever was there.
_OVERWRITING = frozenset(
    "uniform_ normal_ fill_ zero_ copy_ constant_ ones_ zeros_ trunc_normal_ kaiming_uniform_ kaiming_normal_ xavier_uniform_"
    " xavier_normal_ bernoulli_ exponential_ log_normal_ cauchy_ geometric_ random_".split()
)
_COPYING = frozenset("clone contiguous to float double half bfloat16 cpu cuda detach alias data requires_grad_".split())
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


class BuildObserver(TorchFunctionMode):
    """Active while a network is built.

    Args:
        rehearsing: a call is only made to see what it would do: nothing is written, and who called is not looked up.
    """

    def __init__(self, rehearsing: bool = False) -> None:
        super().__init__()
        self.histories: dict[int, History] = {}
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
        if self.rehearsing and writes(getattr(func, "__name__", "")) and "out" not in kwargs:
            result = args[0] if args else kwargs.get("tensor", kwargs.get("input"))
        else:
            result = func(*args, **kwargs)
        with contextlib.suppress(Exception):  # whatever cannot be understood is not known; the build itself must not notice
            self._note(func, args, kwargs, result)
        return result

    def _note(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        name = getattr(func, "__name__", "")
        if name in ("__get__", "__set__", "__delete__") or name in QUIET:
            return
        if writes(name) or kwargs.get("out") is not None:
            target = kwargs.get("out", args[0] if args else kwargs.get("tensor", kwargs.get("input")))
            for tensor in target if isinstance(target, (tuple, list)) else (target,):
                if isinstance(tensor, Tensor):
                    self._wrote(func, name, tensor, args, kwargs)
            return
        read = {storage_of(tensor) for tensor in tensors_in((args, kwargs))}
        for tensor in tensors_in(result):
            if (key := storage_of(tensor)) not in read:
                history = self._made(name, args, kwargs, tensor)
                if history is None:
                    self.histories.pop(key, None)
                else:
                    self.histories[key] = self._kept(history, tensor)

    def _kept(self, history: History, tensor: Tensor) -> History:
        """The history, with a hold on the number of the tensor's storage."""
        history.keeper = StorageWeakRef(tensor.untyped_storage())
        return history

    # -- what is written ---------------------------------------------------------------------------------------------

    def _wrote(self, func: Callable[..., Any], name: str, tensor: Tensor, args: Any, kwargs: Any) -> None:
        key = storage_of(tensor)
        history = self.histories[key] = self.histories.get(key) or self._kept(History(), tensor)
        frame = init_frame()
        if frame is not None:
            self._initialised(frame, history, tensor)
            return
        source = self.histories.get(storage_of(args[1])) if name == "copy_" and len(args) > 1 and isinstance(args[1], Tensor) else None
        if source is not None and source.written and is_whole(tensor) and is_whole(args[1]) and tensor.shape == args[1].shape:
            history.fills, history.written, history.loaded = list(source.fills), True, source.loaded
            return
        others = (*args[1:], *(value for key, value in kwargs.items() if key not in ("tensor", "generator", "out")))
        plain = is_plain(others) and "out" not in kwargs
        own = call_of_method(func, args, kwargs, site()) if plain and name not in ("copy_", "__setitem__") else None
        fill = self._fill(name, others if plain else (None,), tensor, own)
        if name == "copy_" and is_whole(tensor) and history.written and fill.of_tensor is None and fill.of_module is None:
            history.loaded = True
            return
        if name in _OVERWRITING and is_whole(tensor):
            history.fills.clear()
            history.loaded = False
        history.fills.append(fill)
        history.written = True

    def _initialised(self, frame: FrameType, history: History, tensor: Tensor) -> None:
        """A function of torch.nn.init is one fill, whatever it does inside."""
        filled = frame.f_locals.get("tensor")
        if frame is self._init_frame or not isinstance(filled, Tensor) or storage_of(filled) != storage_of(tensor):
            return
        self._init_frame = frame
        found = call_of_frame(frame, lambda value: value is filled, ())
        own = found[0] if found is not None else None
        numbers = (*own.args, *own.kwargs.values()) if own is not None else (None,)
        if is_whole(filled):
            history.fills.clear()
            history.loaded = False
        history.fills.append(self._fill(frame.f_code.co_name, tuple(value for value in numbers if value is not SUBJECT), filled, own))
        history.written = True

    def _fill(self, name: str, numbers: tuple[Any, ...], tensor: Tensor, own: Call | None) -> Fill:
        self._order += 1
        rows = None if is_whole(tensor) else part_of(tensor)
        fill = Fill(self._order, name, numbers, tuple(tensor.shape), rows, own if rows is not None or is_whole(tensor) else None)
        if not self.rehearsing:
            self._look_up(fill, tensor)
        return fill

    def _look_up(self, fill: Fill, tensor: Tensor) -> None:
        """The outermost functions on the stack that were given nothing but this tensor, or the layer that holds it."""
        key, still_open = storage_of(tensor), dict[int, tuple[FrameType, Call, Any]]()
        for frame in frames(_BASE):
            known = self._open.get(id(frame))
            if known is None:
                found = call_of_frame(frame, lambda value: is_subject(value, key, tensor), tensor.shape)
                known = None if found is None else (frame, *found)
            if known is None:
                continue
            still_open[id(frame)] = known
            _, call, subject = known
            if not is_subject(subject, key, tensor):
                continue
            if isinstance(subject, nn.Module):
                fill.of_module = (call, weakref.ref(subject), attribute_of(subject, key) or "")
            else:
                fill.of_tensor = call
        self._open = still_open

    # -- what is made ------------------------------------------------------------------------------------------------

    def _made(self, name: str, args: Any, kwargs: Any, tensor: Tensor) -> History | None:
        if name in ("empty", "empty_like", "new_empty", "empty_strided"):
            return History()
        if name in _FRESH:
            method, numbers = _FRESH[name]
            return self._started(method, numbers, tensor)
        if name in ("full", "full_like", "new_full"):
            value = kwargs.get("fill_value", args[-1] if args else None)
            return self._started("fill_", (value,), tensor) if isinstance(value, (int, float)) else None
        source = next(iter(tensors_in((args, kwargs))), None)
        history = None if source is None else self.histories.get(storage_of(source))
        if history is None or not history.written or source is None or not is_whole(source):
            return None
        if name in _COPYING:
            return History(list(history.fills), True, history.loaded)
        method = {"__radd__": "add", "__rmul__": "mul"}.get(name, name.strip("_"))
        others = [value for value in (*args, *kwargs.values()) if value is not source]
        in_order = (bool(args) and args[0] is source) or method in ("add", "mul")
        if method in POINTWISE and in_order and is_plain(others) and tuple(source.shape) == tuple(tensor.shape):
            function = getattr(torch.Tensor, f"{method}_")
            ordered = (source, *(value for value in args if value is not source))
            own = call_of_method(function, ordered, kwargs, site())
            return History([*history.fills, self._fill(f"{method}_", tuple(others), tensor, own)], True, history.loaded)
        return None

    def _started(self, method: str, numbers: tuple[Any, ...], tensor: Tensor) -> History:
        own = call_of_method(getattr(torch.Tensor, method), (tensor, *numbers), {}, site())
        return History([self._fill(method, numbers, tensor, own)], True)


def observe_build(build: Callable[[], nn.Module]) -> nn.Module:
    """The network that `build` builds; how each of its tensors was filled is kept for as long as it lives."""
    observer = BuildObserver()
    with observer, truncated_on_meta():
        model = build()
    observer.close()
    if isinstance(model, nn.Module):
        with contextlib.suppress(Exception):  # a network whose build is not understood is judged by its numbers
            RecipeBook(observer.histories, _rehearse).write(model)
    return model


_BASE = observe_build.__code__


def _rehearse(call: Call, module: nn.Module, attribute: str) -> Written:
    """What a call writes to one tensor of a layer like this one, which has no data; nothing if it cannot be made."""
    shapes = {name: tensor.shape for name, tensor in module._parameters.items() if tensor is not None}
    watch = BuildObserver(rehearsing=True)
    try:
        copy = at_sizes(module, shapes, device="meta")
        subject = copy if call.of_module else copy._parameters[attribute]
        with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()), truncated_on_meta(), watch:
            call(subject)
        tensor = copy._parameters[attribute]
        history = None if tensor is None else watch.histories.get(storage_of(tensor))
    except Exception:
        return []
    return [(fill.name, fill.numbers) for fill in history.fills] if history is not None else []
