"""Grouped convs of a packed graph with other kernels: as batched matrix products, or as one conv per member."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

CONVS: Mapping[Any, int] = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3, F.conv1d: 1, F.conv2d: 2, F.conv3d: 3}
"""Convs as graphs call them, and their numbers of spatial axes."""


def pointwise_conv(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """A conv with a kernel of size 1 as batched matrix products: ``"b (g i) ..."`` and ``"(g o) i ..."`` to ``"b (g o) ..."``."""
    steps = (stride,) * (input.dim() - 2) if isinstance(stride, int) else tuple(stride)
    if any(step != 1 for step in steps):
        input = input[(slice(None), slice(None), *(slice(None, None, step) for step in steps))]
    kernel = weight.view(groups, -1, weight.shape[1])
    last = input.movedim(1, -1)
    if last.is_contiguous() and not input.is_contiguous():  # channels_last: rows of all images are one matrix per group
        rows = last.reshape(-1, groups, kernel.shape[2]).transpose(0, 1)
        shift = None if bias is None else bias.view(groups, 1, -1)
        wide = torch.bmm(rows, kernel.mT) if shift is None else torch.baddbmm(shift, rows, kernel.mT)
        return wide.transpose(0, 1).reshape(*last.shape[:-1], -1).movedim(-1, 1)
    out = torch.matmul(kernel, input.reshape(input.shape[0], groups, kernel.shape[2], -1))
    if bias is not None:
        out = out + bias.view(groups, -1, 1)
    return out.reshape(input.shape[0], -1, *input.shape[2:])


def conv_per_member(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    members: int = 1,
) -> Tensor:
    """A grouped conv as one conv per member: ``"b (m i) ..."`` and ``"(m o) i ..."`` to ``"b (m o) ..."``."""
    conv = (F.conv1d, F.conv2d, F.conv3d)[input.dim() - 3]
    biases = [None] * members if bias is None else bias.chunk(members)
    own = zip(input.chunk(members, 1), weight.view(members, -1, *weight.shape[1:]).unbind(0), biases, strict=True)
    return torch.cat([conv(part, kernel, shift, stride, padding, dilation, groups // members) for part, kernel, shift in own], 1)


def is_pointwise(node: fx.Node) -> bool:
    """A grouped conv of a packed graph with a kernel of size 1 and no padding."""
    if not is_grouped(node):
        return False
    weight: Any = node.args[1]
    kernel, padding = weight.meta["val"].shape[2:], conv_argument(node, "padding", 0)
    none = padding in ("valid", "same") if isinstance(padding, str) else not any((padding,) if isinstance(padding, int) else padding)
    return none and all(size == 1 for size in kernel)


def is_grouped(node: fx.Node) -> bool:
    """A conv of a packed graph that has groups, on a batch of inputs."""
    if node.op != "call_function" or node.target not in CONVS or len(node.args) < 2:
        return False
    values: list[Any] = [part.meta.get("val") if isinstance(part, fx.Node) else None for part in node.args[:2]]
    if not all(isinstance(value, Tensor) for value in values):
        return False
    return bool(conv_argument(node, "groups", 1) != 1) and values[0].dim() == values[1].dim()


_ORDER = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


def conv_argument(node: fx.Node, name: str, default: Any) -> Any:
    """An argument of a conv, given by its place or its name."""
    return argument_of(node, _ORDER.index(name), name, default)


def argument_of(node: fx.Node, place: int, name: str, default: Any) -> Any:
    """An argument of a call, given by its place or its name."""
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def with_batched_products(graph: fx.Graph) -> fx.Graph | None:
    """A copy of a packed graph whose grouped convs with kernels of size 1 are batched products; None where there is none."""
    return _changed(graph, is_pointwise, lambda _: (pointwise_conv, {}))


def with_convs_per_member(graph: fx.Graph, members: int) -> fx.Graph | None:
    """A copy of a packed graph whose grouped convs run once per member; None where there is none."""

    def fits(node: fx.Node) -> bool:
        return is_grouped(node) and conv_argument(node, "groups", 1) % members == 0

    return _changed(graph, fits, lambda _: (conv_per_member, {"members": members}))


def _changed(graph: fx.Graph, which: Callable[[fx.Node], bool], to: Callable[[fx.Node], tuple[Any, dict[str, Any]]]) -> fx.Graph | None:
    made = fx.Graph()
    env: dict[fx.Node, fx.Node] = {}
    found = False
    for node in graph.nodes:
        if node.op == "output":
            made.output(fx.node.map_arg(node.args[0], env.__getitem__))
            continue
        env[node] = copied = made.node_copy(node, env.__getitem__)
        if which(node):
            function, more = to(node)
            copied.target, copied.kwargs, found = function, {**copied.kwargs, **more}, True
    return made if found else None
