"""Layers of torch.nn whose own forward computes what their small graph does: they are called as they are.

Both are run without data, and what reaches torch's kernels is compared, call by call: the same operators on the same tensors with the
same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode

from packify.core import nested
from packify.nn.block import Form, code_key
from packify.nn.layer_settings import settings
from packify.nn.layers import PACKED
from packify.nn.layouts import Layout
from packify.nn.tree import is_plain_layer, shallow_copy
from packify.packing.small_graphs import SmallGraph


def runs_its_own_forward(module: nn.Module, form: Form, small: SmallGraph, members: int) -> bool:
    """Whether a layer's own ``forward`` is what `form` computes, in either mode.

    Some settings of the layer follow the graph: where its input carries the members, whether they stay there, and whether an activation
    writes in place.

    Args:
        module: of the packed or the member's tree.
        form: the only one of its calls.
        small: the graph of its first call.
        members: M.
    """
    if not (is_plain_layer(module) or type(module) in PACKED.values()) or not small.inputs:
        return False
    own: Any = module
    if "layout" in vars(type(module)):
        first = next(iter(small.inputs.values()))
        own.layout = first.axis if isinstance(first, Layout) else None
        if "stays" in vars(type(module)):
            result = small.call.result
            own.stays = isinstance(result, Layout) and own.layout == result.axis == len(result.shape) - 1 > 0
    for inplace in (True, False) if getattr(module, "inplace", False) else (None,):
        if inplace is not None:
            own.inplace = inplace
        if all(_same(module, graph, training, small, members) for graph, training in ((form.evaluation, False), (form.training, True))):
            return True
    return False


_known: dict[Any, bool] = {}


def _same(module: nn.Module, graph: fx.Graph, training: bool, small: SmallGraph, members: int) -> bool:
    shapes = tuple((name, str(tensor.shape), tensor.dtype) for name, tensor in (*module.named_parameters(), *module.named_buffers()))
    own = tuple(sorted(settings(module).items()))
    key = (type(module), own, shapes, code_key(graph, type(module)), str(small.inputs), training, members)
    if key not in _known:
        _known[key] = _compare(module, graph, training, small, members)
    return _known[key]


def _compare(module: nn.Module, graph: fx.Graph, training: bool, small: SmallGraph, members: int) -> bool:
    twin = _on_meta(module)
    twin.training = training
    inputs = {name: nested.map_leaves(value, lambda leaf: _example(leaf, members)) for name, value in small.inputs.items()}
    try:
        with torch.no_grad():
            own = _logged(twin, inputs, lambda: type(twin).forward(twin, *inputs.values()))
            other = _logged(twin, inputs, lambda: fx.Interpreter(twin, graph=graph).run(*inputs.values()))
    except Exception:  # a forward that takes other arguments, or code that does not run without data
        return False
    return bool(own == other)


def _example(leaf: Any, members: int) -> Any:
    if isinstance(leaf, Layout):
        return torch.empty(leaf.packed_shape(members), dtype=leaf.dtype, device="meta")
    return leaf


def _on_meta(module: nn.Module) -> nn.Module:
    """The layer's settings with tensors without data."""
    twin = shallow_copy(module)
    for name, tensor in module._parameters.items():
        twin._parameters[name] = None if tensor is None else nn.Parameter(tensor.detach().to("meta"), requires_grad=False)
    for name, buffer in module._buffers.items():
        twin._buffers[name] = None if buffer is None else buffer.to("meta")
    return twin


def _logged(twin: nn.Module, inputs: Mapping[str, Any], run: Any) -> Any:
    """What a function calls of torch's operators, and what it returns, with tensors by where they come from."""
    given = (*inputs.values(), *twin.named_parameters(), *twin.named_buffers())
    log = _Log([leaf for leaf in nested.leaves(given) if isinstance(leaf, Tensor)])
    with log:
        result = run()
    return log.calls, log.labelled(result)


class _Log(TorchDispatchMode):
    """Writes down every operator that runs."""

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Any] = []
        self._labels = {id(tensor): f"given {index}" for index, tensor in enumerate(known)}
        self._alive: list[Any] = [known]

    def labelled(self, value: Any) -> Any:
        return nested.map_leaves(value, lambda leaf: self._labels.get(id(leaf), "new") if isinstance(leaf, Tensor) else leaf)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, self.labelled(args), self.labelled(kwargs or {})))
        for position, leaf in enumerate(nested.leaves(result)):
            if isinstance(leaf, Tensor):
                self._labels.setdefault(id(leaf), f"made by {len(self.calls)}, {position}")
                self._alive.append(leaf)
        return result
