"""What is put around modules, activation checkpointing, `torch.compile`, sharding, parametrisations, hooks, and the parts behind it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

# Where wrappers keep the module that they wrap.
_WRAPPED = ("_checkpoint_wrapped_module", "_orig_mod", "_fsdp_wrapped_module")


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside the wrappers of activation checkpointing, of `torch.compile` and of sharding."""
    for name in _WRAPPED:
        inner = module._modules.get(name)
        if inner is not None:
            return unwrapped(inner)
    return module


def remove_wrappers(network: nn.Module) -> None:
    """Put what is inside wrappers in their places."""
    for module in list(network.modules()):
        for name, child in module._modules.items():
            if child is not None:
                module._modules[name] = unwrapped(child)


def plain_name(name: str) -> str:
    """A tensor's or module's dotted name without those of wrappers."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPED)


def part_of(network: nn.Module, name: str) -> nn.Module:
    """A part by its dotted name, behind whatever wrappers are around it and around those that it is in."""
    module = unwrapped(network)
    for part in name.split(".") if name else ():
        child = module._modules.get(part)
        if child is None:
            raise AttributeError(f"{type(module).__name__} has no part called {part!r}")
        module = unwrapped(child)
    return module


def held_tensor(network: nn.Module, name: str) -> Tensor:
    """A parameter or buffer by its dotted name: what a parametrisation makes of it, all of it where it is sharded."""
    path, _, own = name.rpartition(".")
    module = part_of(network, path)
    held: Any = module._parameters.get(own, module._buffers.get(own))
    held = getattr(module, own) if held is None else held
    return held.full_tensor() if hasattr(held, "full_tensor") else held  # type: ignore[no-any-return]


def is_frozen(network: nn.Module, name: str) -> bool:
    """Whether a parameter, by its dotted name, takes no gradient; what a parametrisation makes of others is not frozen."""
    path, _, own = name.rpartition(".")
    parameter = part_of(network, path)._parameters.get(own)
    return parameter is not None and not parameter.requires_grad


def has_forward_hooks(module: nn.Module) -> bool:
    """Whether forward hooks or forward-pre hooks of the module's own would fire."""
    return bool(module._forward_hooks or module._forward_pre_hooks)
