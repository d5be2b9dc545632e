"""Memory formats: which one a network has, whether its convs want channels last, and the change from one to the other."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn

from packify.core import nested
from packify.core.errors import SpecError
from packify.core.report import Note
from packify.execution.kernels import CONVS, conv_argument
from packify.nn.packed_network import PackedNetwork

FORMATS: dict[str, torch.memory_format] = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
Network = TypeVar("Network", bound=nn.Module)
_LAST: dict[int, torch.memory_format] = {4: torch.channels_last, 5: torch.channels_last_3d}


def format_of(network: nn.Module) -> str:
    """``"channels_last"`` if the weights of images' or volumes' convs lie that way, ``"contiguous"`` otherwise.

    A weight with one input channel or a kernel of size 1 lies both ways, and says nothing.
    """
    found = [_is_last(tensor) for tensor in _weights(network) if not (tensor.is_contiguous() and _is_last(tensor))]
    return "channels_last" if found and all(found) else "contiguous"


def to_format(network: nn.Module, name: str) -> None:
    """Let the weights of convs lie in a memory format; numbers, parameters and gradients stay what they are.

    Raises:
        SpecError: there is no format of that name.
    """
    if name not in FORMATS:
        known = " or ".join(map(repr, FORMATS))
        raise SpecError("memory format", found=repr(name), why=f"weights of convs lie {known}", fix='pass "channels_last"')
    for tensor in _weights(network):
        wanted = _LAST[tensor.dim()] if name == "channels_last" else torch.contiguous_format
        if not tensor.is_contiguous(memory_format=wanted):
            tensor.data = tensor.data.contiguous(memory_format=wanted)


def copy_in_format(network: Network, name: str, *, train: bool) -> Network:
    """A copy of a network whose weights lie in a memory format, to be measured."""
    made = copy.deepcopy(network)
    to_format(made, name)
    return made.train(train)


def inputs_in_format(inputs: Any, name: str) -> Any:
    """Inputs whose images lie in a memory format, as an input pipeline can give them."""

    def own(leaf: Any) -> Any:
        return leaf.contiguous(memory_format=FORMATS[name]) if isinstance(leaf, Tensor) and leaf.dim() == 4 else leaf

    return nested.map_leaves(inputs, own)


def settle_format(network: PackedNetwork, reference: nn.Module) -> Note | None:
    """Let a new packed network lie as the reference does, or as its convs want it on a CPU; what was done, for the report."""
    if format_of(reference) == "channels_last":
        to_format(network, "channels_last")
        return _note("the reference's do")
    device = next((parameter.device.type for parameter in network.parameters()), "")
    if device not in ("cpu", "meta") or network.num_estimators == 1:
        return None
    if not wants_channels_last(network) or not runs_in_channels_last(network):
        return None
    to_format(network, "channels_last")
    return _note("a CPU runs its convs faster so, or they lie between layers that read channels last")


def _note(why: str) -> Note:
    return Note("weights of convs", "", "channels last", why)


def wants_channels_last(network: PackedNetwork) -> bool:
    """Whether most of a member's Mult-Adds are in convs of images whose kernels are larger than their strides, depthwise ones aside.

    A transformer's patch embedding is a conv too, but everything after it is made of linear layers. Where most convs, depthwise or not,
    are read as ``"b h w c"``, by norms and linear layers, channels last saves the way there.
    """
    graph = network.member_template.graphs["eval"]
    inner = [node for node in graph.nodes if CONVS.get(node.target) == 2 and not _cuts_patches(node)]
    if 2 * sum(any(map(_reads_last, node.users)) for node in inner) > len(inner):
        return True
    convs = others = 0
    for node in graph.nodes:
        work = mult_adds_of(node)
        if work and _is_conv_of_images(node):
            convs += work
        else:
            others += work
    return convs > others


def has_inner_convs(network: PackedNetwork) -> bool:
    """Whether a member has convs besides those that cut patches, of which a transformer has one in front of many layers."""
    graph = network.member_template.graphs["eval"]
    return any(node.op == "call_function" and node.target in CONVS and not _cuts_patches(node) for node in graph.nodes)


def runs_in_channels_last(network: PackedNetwork) -> bool:
    """Whether the graphs, packed and of a member, can run on features that lie channels last: ``view`` needs memory in its own order."""
    parts = (network, network.member_template)
    return all(_can_be_viewed(node) for part in parts for graph in dict.fromkeys(part.graphs.values()) for node in graph.nodes)


def _can_be_viewed(node: fx.Node) -> bool:
    if node.op != "call_method" or node.target != "view" or not isinstance(node.args[0], fx.Node):
        return True
    features, wanted = node.args[0].meta.get("val"), node.meta.get("val")
    if not isinstance(features, Tensor) or not isinstance(wanted, Tensor) or features.dim() != 4 or not features.is_contiguous():
        return True
    try:
        torch.empty(features.shape, device="meta", memory_format=torch.channels_last).view(wanted.shape)
    except RuntimeError:
        return False
    return True


def _weights(network: nn.Module) -> Iterator[Tensor]:
    """The parameters of four and five axes."""
    return (parameter for parameter in network.parameters() if parameter.dim() in _LAST)


def _is_last(tensor: Tensor) -> bool:
    return tensor.is_contiguous(memory_format=_LAST[tensor.dim()])


def _is_conv_of_images(node: fx.Node) -> bool:
    if CONVS.get(node.target) != 2:
        return False
    weight: Any = node.args[1]
    return bool(weight.meta["val"].shape[1] > 1) and not _cuts_patches(node)


def _cuts_patches(node: fx.Node) -> bool:
    """Whether a conv reads every pixel once, as a patch embedding does."""
    weight: Any = node.args[1]
    stride: Any = conv_argument(node, "stride", 1)
    kernel = weight.meta["val"].shape[2:]
    steps = (stride,) * len(kernel) if isinstance(stride, int) else tuple(stride)
    return max(kernel) > 1 and all(step >= size for step, size in zip(steps, kernel, strict=True))


def _reads_last(node: fx.Node) -> bool:
    """``x.permute(0, 2, 3, 1)``."""
    order: Any = node.args[1:] or (node.kwargs.get("dims", ()),)
    order = order[0] if isinstance(order[0], (tuple, list)) else order
    return node.meta.get("op") == "permute" and tuple(order) == (0, 2, 3, 1)


def mult_adds_of(node: fx.Node) -> int:
    """Of a conv or a product with a weight, about."""
    value = node.meta.get("val")
    if node.op != "call_function" or not isinstance(value, Tensor) or len(node.args) < 2:
        return 0
    weight = node.args[1]
    if not isinstance(weight, fx.Node) or weight.op != "get_attr" or not isinstance(weight.meta.get("val"), Tensor):
        return 0
    kernel = weight.meta["val"]
    if node.target in CONVS:
        return int(value.numel() // value.shape[1] * kernel.numel())
    return int(value.numel() * kernel.shape[-1]) if kernel.dim() == 2 and "linear" in str(node.meta.get("op")) else 0
