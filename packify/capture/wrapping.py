"""The modules of a network's copy while it is recorded: they say when they are called, or are recorded as one node each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from packify.capture.recorder import Recorder
from packify.capture.writer import GraphWriter

# Modules kept whole: their behaviour changes with their own train / eval switch, or their kernel takes all weights at once.
DEFAULT_LEAVES: tuple[type[nn.Module], ...] = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
    nn.RNN,
    nn.LSTM,
    nn.GRU,
)


def wrap_modules(root: nn.Module, recorder: Recorder, leaves: tuple[type[nn.Module], ...]) -> None:
    """Let every submodule of the copy say when it is called and when its forward runs, or be recorded as one node."""
    writer = recorder.writer
    for path, module in root.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        if path:
            vars(module)["_compiled_call_impl"] = _called(module, path, writer)
        if "forward" not in vars(module):
            whole = path and _is_leaf(module, leaves)
            vars(module)["forward"] = _recorded(module, path, recorder) if whole else _scoped(module, path, writer)


def write_nothing(root: nn.Module) -> None:
    """Dropout that is called as a module works out of place, as its value in the graphs is."""
    for module in root.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.inplace = False


def _is_leaf(module: nn.Module, leaves: tuple[type[nn.Module], ...]) -> bool:
    if isinstance(module, leaves):
        return True
    own = next((kind for kind in DEFAULT_LEAVES if isinstance(module, kind)), None)
    return (
        own is not None
        and type(module).forward is own.forward
        and not hasattr(module, "parametrizations")
        and not module._forward_pre_hooks
    )


def _recorded(module: nn.Module, path: str, recorder: Recorder) -> Callable[..., Any]:
    forward = module.forward
    return lambda *args, **kwargs: recorder.leaf(module, path, forward, args, kwargs)


def _scoped(module: nn.Module, path: str, writer: GraphWriter) -> Callable[..., Any]:
    forward = module.forward

    def scoped(*args: Any, **kwargs: Any) -> Any:
        with writer.within(path):
            return forward(*args, **kwargs)

    return scoped


def _called(module: nn.Module, path: str, writer: GraphWriter) -> Callable[..., Any]:
    """A call of a module with its hooks; `torch.nn.Module` has a place for what `torch.compile` puts there."""
    call: Callable[..., Any] = module._call_impl

    def called(*args: Any, **kwargs: Any) -> Any:
        return writer.call(module, path, call, args, kwargs) if writer.active else call(*args, **kwargs)

    return called
