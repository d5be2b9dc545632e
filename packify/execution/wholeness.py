"""Whether a network can be run past its own modules: a member's graph computes what they compute, but does not call them.

Hooks have to fire, exchanged parts have to be used, and a part in another mode than the network runs another graph. Where there is any of
these the network runs as it is, whatever its strategy.
"""

from __future__ import annotations

from torch.nn.modules import module as torch_module

from packify.nn.exchange import exchanged_parts
from packify.nn.packed_network import PackedNetwork
from packify.nn.wrappers import unwrapped


class Wholeness:
    """What a network was made of, to be compared with what it is now.

    Args:
        network: as it is when this is made.
    """

    def __init__(self, network: PackedNetwork) -> None:
        self._parts = [module for module in network.body.modules() if module is not network.body]
        self._links = [(parent, name, child) for parent in network.body.modules() for name, child in parent._modules.items()]
        self._one_graph = network.graphs["eval"] is network.graphs["train"]
        self._changed = next(iter(exchanged_parts(network)), "")
        self._wrapped = next((name for _, name, child in self._links if child is not None and unwrapped(child) is not child), "")

    def reason_against(self, network: PackedNetwork) -> str:
        """Why the network's own modules have to be called; empty where they need not be."""
        if self._changed or self._wrapped:
            return f"{self._changed or self._wrapped} is another module than the one that was packed, or has a wrapper"
        if torch_module._has_any_global_hook():
            return "hooks on all modules have to fire"
        for part in self._parts:
            if part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks:
                return f"a {type(part).__name__} has hooks, which have to fire"
            if part._compiled_call_impl is not None:
                return f"a {type(part).__name__} has been compiled by itself"
        for parent, name, child in self._links:
            if parent._modules.get(name) is not child:
                return f"{name} is another module than the one that was packed"
        if not self._one_graph:
            training = network.training
            for part in self._parts:
                if part.training is not training:
                    return f"a {type(part).__name__} is in another mode than the network"
        return ""
