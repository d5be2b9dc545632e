"""Whether a network can be run past its own modules: a member's graph computes what they compute, but does not call them.

Hooks have to fire, exchanged parts have to be used, and a part in another mode than the network runs another graph. Where there is any of
these the network runs as it is, whatever its strategy.
"""

from __future__ import annotations

import operator
from itertools import chain

import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torch.utils.hooks import RemovableHandle

from packify.nn.exchange import exchanged_parts
from packify.nn.packed_network import PackedNetwork
from packify.nn.wrappers import has_forward_hooks, unwrapped

_mode_of = operator.itemgetter("training")


class Wholeness:
    """What a network was made of, to be compared with what it is now.

    Args:
        network: as it is when this is made.
    """

    def __init__(self, network: PackedNetwork) -> None:
        modules = dict(network.body.named_modules())
        self._held = [module._modules for module in modules.values()]
        self._held_names = [f"{path}.{name}".removeprefix(".") for path, module in modules.items() for name in module._modules]
        self._names, self._parts = list(modules)[1:], list(modules.values())[1:]
        self._own = [vars(part) for part in self._parts]
        self._children, self._forwards = self._children_now(), [own.get("forward") for own in self._own]
        self._one_graph = network.graphs["eval"] is network.graphs["train"]
        self._changed = next(iter(exchanged_parts(network)), "")
        children = zip(self._held_names, self._children_now(), strict=True)
        self._wrapped = next((name for name, child in children if isinstance(child, nn.Module) and unwrapped(child) is not child), "")
        self._last_hook, self._sizes = -1, [-1]

    def reason_against(self, network: PackedNetwork) -> str:
        """Why the network's own modules have to be called; empty where they need not be.

        It is asked at every call, so that nothing is looked at twice: parts only for hooks if any hook was registered anywhere since they
        had none, and for what else may be set on them only if something was.
        """
        if torch.compiler.is_compiling():
            return self._reason_against(network)
        last_hook, sizes = RemovableHandle.next_id, list(map(len, self._own))
        if last_hook == self._last_hook and sizes == self._sizes and self._is_as_it_was(network):
            return ""
        reason = self._reason_against(network)
        self._last_hook, self._sizes = (-1, [-1]) if reason or any(self._forwards) else (last_hook, sizes)
        return reason

    def _is_as_it_was(self, network: PackedNetwork) -> bool:
        """Whether all parts are where they were, and in the network's mode."""
        if torch_module._has_any_global_hook() or self._children_now() != self._children:
            return False
        return self._one_graph or {network.training}.issuperset(map(_mode_of, self._own))

    def _children_now(self) -> list[object]:
        return list(chain.from_iterable(map(dict.values, self._held)))

    def _reason_against(self, network: PackedNetwork) -> str:
        if self._changed or self._wrapped:
            return f"{self._changed or self._wrapped} is another module than the one that was packed, or has a wrapper"
        if torch_module._has_any_global_hook():
            return "hooks on all modules have to fire"
        for name, part, forward in zip(self._names, self._parts, self._forwards, strict=True):
            reason = _reason_of(part, forward)
            if reason:
                return f"{name} {reason}"
        for name, new, old in zip(self._held_names, self._children_now(), self._children, strict=False):
            if new is not old:
                return f"{name} is another module than the one that was packed"
        if len(self._children_now()) != len(self._children):
            return "modules were added or taken away"
        if not self._one_graph:
            for name, part in zip(self._names, self._parts, strict=True):
                if part.training is not network.training:
                    return f"{name} is in another mode than the network"
        return ""


def _reason_of(part: nn.Module, forward: object) -> str:
    """Why one part has to be called; `forward` is what was set on it, past its class, when the network was packed."""
    if has_forward_hooks(part) or part._backward_hooks or part._backward_pre_hooks:
        return "has hooks, which have to fire"
    if part._compiled_call_impl is not None:
        return "has been compiled by itself"
    return "has been given another forward" if vars(part).get("forward") is not forward else ""
