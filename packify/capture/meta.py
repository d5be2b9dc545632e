"""A copy of the reference that holds no data: same modules, same names, every parameter and buffer on the meta device."""

from __future__ import annotations

import copy
import functools
from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from packify.core import nested
from packify.core.errors import TraceError


def meta_copy(model: nn.Module) -> nn.Module:
    """A meta-device deep copy of `model`, which is neither changed nor allocated a second time.

    Forward hooks that are methods of the network's own modules, and those of `torch.nn.utils` that compute a weight, are part of the
    network and come along. Other hooks stay with the original: they may write to what belongs to somebody else.

    Raises:
        TraceError: the model holds lazy parameters or something that cannot be copied.
    """
    memo: dict[int, Any] = {}
    for name, tensor in (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)):
        if isinstance(tensor, (nn.UninitializedParameter, nn.UninitializedBuffer)):
            raise TraceError(
                name,
                found="a lazy parameter without a shape",
                why="widths cannot be read from a layer that has not seen an input",
                fix="run the model once on an example input, then pack it",
            )
        memo.setdefault(id(tensor), _empty_like(tensor))
    for module in model.modules():
        for key, value in vars(module).items():
            for held in nested.leaves(value):
                if isinstance(held, torch.Tensor) and not held.is_leaf:
                    memo.setdefault(id(held), held.detach())
            if key.endswith("_hooks") and isinstance(value, OrderedDict) and value:
                memo[id(value)] = OrderedDict()
    try:
        copied = copy.deepcopy(model, memo)
        for module, twin in zip(model.modules(), copied.modules(), strict=True):
            for key in _FORWARD_HOOKS:
                own = {number: hook for number, hook in vars(module)[key].items() if is_part_of(model, hook)}
                vars(twin)[key] = OrderedDict((number, copy.deepcopy(hook, memo)) for number, hook in own.items())
    except Exception as error:
        raise TraceError(
            type(model).__name__,
            found=f"{type(error).__name__}: {error}",
            why="the network is recorded on a copy, so that yours is never touched, and copy.deepcopy cannot copy it",
            fix="give the module that holds the uncopyable object a __deepcopy__, or pack the part without it: "
            'packify.pack_submodule(model, "backbone", ...)',
        ) from error
    vars(copied)[_TABLES] = frozen_constants(model)
    return copied


_TABLES = "_frozen_tables"


def frozen_constants(model: nn.Module) -> frozenset[str]:
    """The parameters that stay frozen while others are trained, and whose numbers were not drawn: an identity, a range, a mean."""
    if _TABLES in vars(model):  # a copy on the meta device has no numbers: what its original had is kept
        return frozenset(vars(model)[_TABLES])
    parameters = dict(model.named_parameters(remove_duplicate=False))
    if not any(parameter.requires_grad for parameter in parameters.values()):
        return frozenset()
    frozen = {name: tensor for name, tensor in parameters.items() if not (tensor.requires_grad or tensor.is_meta)}
    return frozenset(name for name, tensor in frozen.items() if tensor.numel() > 1 and not _was_drawn(tensor.flatten()))


def _was_drawn(values: torch.Tensor) -> bool:
    steps = values.diff()
    ordered = bool((steps >= 0).all() or (steps <= 0).all())
    return not ordered and values.unique().numel() > values.numel() / 2


def _empty_like(tensor: torch.Tensor) -> torch.Tensor:
    empty = torch.empty_like(tensor.detach(), device="meta")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty


_FORWARD_HOOKS = ("_forward_pre_hooks", "_forward_hooks")


def hooks_left_behind(model: nn.Module) -> list[str]:
    """The modules with forward hooks that are no part of the network."""
    kinds = [(name, getattr(module, kind)) for name, module in model.named_modules() for kind in _FORWARD_HOOKS]
    return list(dict.fromkeys(name for name, hooks in kinds if not all(is_part_of(model, hook) for hook in hooks.values())))


def is_part_of(model: nn.Module, hook: Any) -> bool:
    """Whether a forward hook computes with nothing but the network itself."""
    while isinstance(hook, functools.partial):
        hook = hook.func
    owner = getattr(hook, "__self__", None)
    return type(hook).__module__.startswith("torch.nn.utils") or any(owner is module for module in model.modules())
