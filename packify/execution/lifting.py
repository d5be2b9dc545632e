"""A member's graph as a function of its tensors, so that it runs on views of packed ones.

    def forward(self, x, own_conv1_weight, own_bn1_weight, own_bn1_bias, own_bn1_running_mean, own_bn1_running_var, ...): ...

``self`` is the packed network's module tree, which only says how its layers are set: train or eval, rate of dropout, momentum.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from packify.nn.block import base_of
from packify.nn.code import function_of
from packify.nn.members import OWN_CODE
from packify.nn.tree import is_constant
from packify.nn.writes import store

Kind = Literal["packed", "shared", "count", "number"]


@dataclass(frozen=True)
class Slot:
    """A tensor that the function takes.

    Attributes:
        path: the module that holds it.
        name: its name there.
        shape: of one member's.
        kind: ``"packed"``; ``"shared"``, one tensor for all members; ``"count"``, a number of batches that only the first member needs, who
            counts; or ``"number"``, another number that members share and may change, so that each of the others is given a copy.
        stored: the graph writes to it.
    """

    path: str
    name: str
    shape: tuple[int, ...]
    kind: Kind
    stored: bool = False


@dataclass(frozen=True, eq=False)
class Lifted:
    """The function, and what it takes after the inputs.

    Attributes:
        graph: what the function runs.
        slots: its tensors, in order.
    """

    graph: fx.Graph
    slots: tuple[Slot, ...]
    function: Callable[..., tuple[Any, ...]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "function", function_of(self.graph, "<packify member>"))


def lift(graph: fx.Graph, body: nn.Module, member_body: nn.Module) -> Lifted:
    """The function that runs a member's graph.

    Args:
        graph: of one mode of a member.
        body: the packed network's module tree.
        member_body: one member's, on the meta device, for shapes.
    """
    return _Lifting(graph, body, member_body).run()


class _Lifting:
    def __init__(self, graph: fx.Graph, body: nn.Module, member_body: nn.Module) -> None:
        self.source, self.body, self.member_body = graph, body, member_body
        self.graph = fx.Graph()
        self.slots: dict[tuple[str, str], Slot] = {}
        self.taken: dict[tuple[str, str], fx.Node] = {}
        self.env: dict[fx.Node, fx.Node] = {}
        self.stored = {str(node.args[0].target) for node in graph.nodes if node.target is store and isinstance(node.args[0], fx.Node)}

    def run(self) -> Lifted:
        for node in self.source.nodes:
            if node.op == "placeholder":
                self.env[node] = self.graph.placeholder(str(node.target))
        for node in self.source.nodes:
            if node.op != "placeholder":
                self.env[node] = self._visit(node)
        return Lifted(self.graph, tuple(self.slots.values()))

    def _visit(self, node: fx.Node) -> fx.Node:
        if node.op == "get_attr":
            path, _, name = str(node.target).rpartition(".")
            return self._tensor(path, name) if self._holds(path, name) else self.graph.node_copy(node)
        if node.op == "call_module":
            return self._module(node)
        made = self.graph.node_copy(node, self.env.__getitem__)
        if node.op == "call_method" and node.target == "view" and not any(isinstance(arg, torch.dtype) for arg in node.args):
            made.target = "reshape"  # the packed graph may move memory where the member's does not, and a view needs it in order
        return made

    def _holds(self, path: str, name: str) -> bool:
        module = self.body.get_submodule(path)
        return name in module._parameters or name in module._buffers or isinstance(getattr(module, name, None), Tensor)

    def _tensor(self, path: str, name: str, kind: Kind = "shared") -> fx.Node:
        key = (path, name)
        if key not in self.taken:
            last = next((node for node in reversed(self.graph.nodes) if node.op == "placeholder"), None)
            place = self.graph.inserting_before() if last is None else self.graph.inserting_after(last)
            with place:
                self.taken[key] = self.graph.placeholder(self._free("own_" + re.sub(r"\W", "_", f"{path}_{name}".strip("_"))))
            self.slots[key] = self._slot(path, name, kind)
        return self.taken[key]

    def _free(self, name: str) -> str:
        taken = {node.target for node in self.graph.find_nodes(op="placeholder")}
        while name in taken:
            name += "_"
        return name

    def _slot(self, path: str, name: str, kind: Kind) -> Slot:
        full = f"{path}.{name}" if path else name
        packed, own = _held(self.body, path, name), _held(self.member_body, path, name)
        if is_constant(full):
            return Slot(path, name, tuple(own.shape), "shared")
        if packed.dim() == 0:
            return Slot(path, name, (), kind, full in self.stored)
        if packed.shape == own.shape:  # one tensor for all members
            return Slot(path, name, tuple(own.shape), "number" if full in self.stored else "shared", full in self.stored)
        return Slot(path, name, tuple(own.shape), "packed", full in self.stored)

    def _module(self, node: fx.Node) -> fx.Node:
        """A module without tensors is called as it is; others get the member's."""
        path = str(node.target)
        module = self.body.get_submodule(path)
        names = [name for name, _ in (*module.named_parameters(), *module.named_buffers())]
        args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), self.env.__getitem__)
        function = next((own for forward, own in _NORMS.items() if base_of(module).forward is forward and not kwargs), None)
        value = node.meta.get("val")
        if function is instance_norm and value is not None and value.dim() < _batched_axes(module):
            function = None
        if not names and function is not instance_norm:  # which would compare the member's width with the packed one
            return self.graph.call_function(call_plainly, (self.graph.get_attr(path), *args), kwargs)
        if function is not None:
            kind: Kind = "count" if getattr(module, "momentum", None) is not None else "number"
            tensors = [self._tensor(path, name, kind) if _has(module, name) else None for name in _NORM_TENSORS]
            return self.graph.call_function(function, (self.graph.get_attr(path), *args, *tensors))
        places = [(f"{path}.{outer}".rstrip("."), name) for outer, _, name in (full.rpartition(".") for full in names)]
        given = [self._tensor(*place, "number") for place in places]
        return self.graph.call_function(CallOnTensors(tuple(names)), (self.graph.get_attr(path), given, *args), kwargs)


def _held(body: nn.Module, path: str, name: str) -> Tensor:
    module = body.get_submodule(path)
    tensor: Tensor | None = module._parameters.get(name)
    tensor = module._buffers.get(name) if tensor is None else tensor
    return getattr(module, name) if tensor is None else tensor


def call_plainly(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """What a module's own code computes, also where the module is a block that runs a graph around it; hooks do not fire."""
    return base_of(module).forward(module, *args, **kwargs)


def _has(module: nn.Module, name: str) -> bool:
    return module._parameters.get(name) is not None or module._buffers.get(name) is not None


_NORM_TENSORS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def batch_norm(
    module: nn.Module,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    num_batches_tracked: Tensor | None,
) -> Tensor:
    """What `module` computes on one member's tensors; its statistics are updated in place."""
    own: Any = module
    factor = 0.0 if own.momentum is None else own.momentum
    if own.training and own.track_running_stats and num_batches_tracked is not None:
        num_batches_tracked.add_(1)
        if own.momentum is None:
            factor = 1.0 / float(num_batches_tracked)
    by_batch = own.training or (running_mean is None and running_var is None)
    tracked = not own.training or own.track_running_stats
    mean, var = (running_mean, running_var) if tracked else (None, None)
    return F.batch_norm(input, mean, var, weight, bias, by_batch, factor, own.eps)


def instance_norm(
    module: nn.Module,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    num_batches_tracked: Tensor | None,
) -> Tensor:
    """What `module` computes on one member's tensors; its statistics are updated in place."""
    own: Any = module
    factor = 0.0 if own.momentum is None else own.momentum
    return F.instance_norm(input, running_mean, running_var, weight, bias, own.training or not own.track_running_stats, factor, own.eps)


_NORMS: dict[Any, Callable[..., Tensor]] = {_BatchNorm.forward: batch_norm, _InstanceNorm.forward: instance_norm}


_WITH_BATCH: dict[type[nn.Module], int] = {nn.InstanceNorm1d: 3, nn.InstanceNorm2d: 4, nn.InstanceNorm3d: 5}


def _batched_axes(module: nn.Module) -> int:
    return next((axes for kind, axes in _WITH_BATCH.items() if base_of(module) is kind), 6)


_one_at_a_time = threading.RLock()


@dataclass(frozen=True)
class CallOnTensors:
    """Calls a module on other tensors than its own: a recurrent layer, or one that is kept whole.

    Attributes:
        names: of the tensors, in the module.
    """

    names: tuple[str, ...]
    __name__ = "call_on_tensors"

    def __call__(self, module: nn.Module, tensors: list[Tensor], *args: Any, **kwargs: Any) -> Any:
        own: nn.Module = vars(module).get(OWN_CODE, module)
        inside = "" if own is module else "module."
        given = {f"{inside}{name}": tensor for name, tensor in zip(self.names, tensors, strict=True)}
        if torch.compiler.is_compiling():
            return functional_call(own, given, args, kwargs)
        with _one_at_a_time:  # the tensors are put into the module for as long as the call takes
            return functional_call(own, given, args, kwargs)
