"""The strategy and the memory format of a packed network that nobody has tuned: rules, and the measurements that they come from.

On a CPU a grouped conv is one call of oneDNN for all members, which blocks its memory well only for some widths; a conv of one member
always is, but is small. So members in turn win as soon as there is enough to do in one call, and grouped kernels where there is not.
Channels last suits convs that are not depthwise, and depthwise ones between layers that read channels last anyway.

Three borders, each from measurements:

- images: from 4096 pixels in a batch on, members run in turn, if an operator of each has half a million Mult-Adds to do in the mean.
  ResNet-18 with a stem for images of 32 pixels, channels last, forward, relative to the single network: at a batch of 2 grouped 1.05 and in
  turn 1.28, at 4 1.18 and 1.08, at 16 1.17 and 1.08, and in another run 1.34 and 1.24. With the stem for 224 pixels, which leaves few
  positions to a conv, it is 1.30 and 1.72, 1.22 and 1.56, 1.09 and 1.23: there grouped is better up to a batch of 64, which `tune` finds.
  Where operators do less, calling them M times is what takes time: MobileNetV3-L on one image of 224 pixels, 0.3 M an operator, 1.55 and
  1.84, as (1.5, 8, 1), 0.06 M, 1.18 and 2.68; up to twelve convs of 8 to 32 channels on one of 64 pixels, 0.2 to 0.7 M, 0.6 and 1.9 ms, 1.3
  and 2.8, 2.6 and 4.2, 5.1 and 15.7; 3.2 M, 4.3 and 4.1; a U-Net on one of 64 pixels, 1.9 M, 1.72 and 1.49.
- one image: torch runs a small conv without groups in a kernel of its own, which need not reorder the weights, and one with groups in
  oneDNN, which does. Where most of the weights belong to such convs, every conv runs once per member: ResNet-18 on 32 pixels per layer
  1.33, in turn 1.49 and grouped 2.83.
- rows of features ``"b c"`` and tokens: an MLP of four layers, hidden 256, (2, 4, 1), grouped and in turn: at 64 rows 1.88 and 1.70
  forward, 1.63 and 1.97 with backward; at 512 1.70 and 1.34, 1.61 and 1.44. (2, 4, 2) at 64 rows: 1.52 and 2.16, at 512 1.45 and 1.32.

`MEASURED` holds times relative to the single network run contiguously, (2, 4, 1), float32, one thread of an AVX2 CPU;
``packify bench`` measures the same elsewhere, and ``packed.tune(x)`` decides by measurement. What a default cannot know is whether a
network will be trained: ResNet-18 with the stem for 224 pixels on images of 32, at batches up to 16, trains up to 1.5 times as fast
contiguously, and infers up to 1.7 times as fast channels last. On other devices nothing has been measured yet: there the members run
grouped, in the reference's memory format.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx

from packify.execution.formats import mult_adds_of
from packify.execution.kernels import CONVS, conv_argument
from packify.execution.plans import batch_of
from packify.nn.packed_network import PackedNetwork

LEAST_PIXELS = 4096
"""Pixels of the input, over the whole batch, from which on members run in turn on a CPU."""
LEAST_WORK_OF_OPERATORS = 0.5e6
"""Mult-Adds of a member's operators on images, in a batch and in the mean, below which members run grouped all the same."""
LEAST_ROWS = 512
"""The same for rows of features, and for tokens of a batch."""
LEAST_ROWS_FORWARD = 64
"""The same without gradients, where layers have no subgroups."""
_NATIVE_NUMEL = 20480  # torch's own border for a conv of one sample, in `ConvParams::use_mkldnn`
LEAST_WORK = 250e6
"""Mult-Adds of a member, from which on members run in turn in exported files, for one sample, and in compiled code, for a batch."""
DEEP_STRATEGY = "in turn"
"""How the members of a Deep Ensemble run if nobody says otherwise: each is as wide as the reference, and needs the memory of one."""


@dataclass(frozen=True)
class Measured:
    """One line of measurements, forward and forward + backward.

    Attributes:
        network: by name, with the input that it was given.
        shape: of the input.
        grouped, grouped_cl, in_turn, in_turn_cl: relative to the single network; ``cl`` is channels last.
    """

    network: str
    shape: tuple[int, ...]
    grouped: tuple[float, float]
    grouped_cl: tuple[float, float]
    in_turn: tuple[float, float]
    in_turn_cl: tuple[float, float]


MEASURED = (
    Measured("resnet18", (32, 3, 32, 32), (1.29, 1.28), (1.01, 1.14), (1.07, 1.06), (0.81, 1.00)),
    Measured("resnet50", (16, 3, 32, 32), (2.28, 1.60), (1.13, 1.43), (1.12, 1.20), (0.90, 1.09)),
    Measured("resnet50", (4, 3, 224, 224), (1.38, 1.38), (1.18, 1.22), (1.25, 1.31), (1.04, 0.99)),
    Measured("mobilenetv3_large_100", (8, 3, 224, 224), (1.90, 2.11), (2.08, 1.66), (1.81, 1.87), (1.83, 1.43)),
    Measured("convnext_tiny", (4, 3, 128, 128), (1.51, 1.79), (1.49, 1.52), (1.31, 1.41), (1.34, 1.39)),
    Measured("vit_tiny_patch16_224", (8, 3, 224, 224), (1.63, 1.47), (1.55, 1.52), (1.46, 1.52), (1.58, 1.57)),
    Measured("resnet18", (1, 3, 32, 32), (1.27, 1.20), (1.13, 1.27), (1.58, 1.46), (1.38, 1.24)),
)


def default_strategy(network: PackedNetwork, device: torch.device, inputs: Sequence[Tensor]) -> str:
    """The strategy of a call of `network` that nothing was measured for."""
    if network.suited_strategies is not None:
        return network.suited_strategies[0]
    if device.type != "cpu" or not inputs:
        return "grouped"
    largest = max(inputs, key=Tensor.numel)
    if largest.dim() > 3 and largest.shape[0] == 1 and _pixels(largest.shape) < LEAST_PIXELS:
        return "per layer" if runs_natively_alone(network) else "grouped"
    if largest.dim() > 3 and operators_work_per_pixel(network) * _pixels(largest.shape) < LEAST_WORK_OF_OPERATORS:
        return "grouped"
    forward = not torch.is_grad_enabled() and network.spec.gamma == 1
    return default_for_shape(tuple(largest.shape), features=largest.is_floating_point(), forward=forward)


def default_for_shape(shape: tuple[int, ...], *, features: bool = True, forward: bool = False) -> str:
    """The strategy on a CPU by the shape of the input.

    Args:
        shape: of images ``"b c h w"``, of tokens ``"b n c"``, of features ``"b c"``; of numbers of tokens ``"b n"``.
        features: it holds features, and no numbers of tokens.
        forward: nothing wants gradients, and layers have no subgroups.
    """
    if len(shape) > 3:
        return "in turn" if _pixels(shape) >= LEAST_PIXELS else "grouped"
    rows = math.prod(shape[:-1]) if features else math.prod(shape)
    return "in turn" if rows >= (LEAST_ROWS_FORWARD if forward else LEAST_ROWS) else "grouped"


def strategy_of_files(network: PackedNetwork) -> str:
    """The strategy of an exported file that nobody has chosen.

    In turn where a member has `LEAST_WORK` to do for one sample: so it is measured in onnxruntime, as pt2 and by AOTInductor
    (examples/export_speed.py; tests/bench/README.md has the figures).
    """
    on_cpu = all(parameter.device.type == "cpu" for parameter in network.parameters())
    if not on_cpu or "in turn" not in (network.suited_strategies or ("in turn",)):
        return "grouped"
    return "in turn" if least_batch_in_turn(network) <= 1 else "grouped"


def least_batch_in_turn(network: PackedNetwork) -> float:
    """Samples of a call, from which on members run in turn in compiled code on a CPU: where a member has `LEAST_WORK` to do.

    One thread, grouped and in turn, both compiled: MobileNetV3-L at 224 pixels, a batch of 1, 42 and 50 ms; an MLP of four layers, hidden
    256, at 1, 16 and 64 rows 0.40 and 0.54, 0.89 and 1.19, 1.24 and 1.38 ms. For larger networks see `strategy_of_files`.
    """
    work, examples = _work_of(network)
    return LEAST_WORK * max(batch_of(examples), 1) / work if work else math.inf


def operators_work_per_pixel(network: PackedNetwork) -> float:
    """Mult-Adds of a member's operators, in the mean of all calls, for each pixel of the example's largest input in all samples."""
    graph = network.member_template.graphs["eval"]
    if graph not in _work:
        work, examples = _work_of(network)
        operators = max(sum(node.op.startswith("call") for node in graph.nodes), 1)
        _work[graph] = work / operators / max((_pixels(one.shape) for one in examples if one.dim() > 3), default=1)
    return _work[graph]


_work: WeakKeyDictionary[fx.Graph, float] = WeakKeyDictionary()


def _work_of(network: PackedNetwork) -> tuple[int, list[Tensor]]:
    """Mult-Adds of a member's convs and linear layers for the graph's example, and this."""
    graph = network.member_template.graphs["eval"]
    examples = [value for node in graph.find_nodes(op="placeholder") if isinstance(value := node.meta.get("val"), Tensor)]
    return sum(map(mult_adds_of, graph.nodes)), examples


def _pixels(shape: Sequence[int]) -> int:
    return shape[0] * math.prod(shape[2:])


def runs_natively_alone(network: PackedNetwork) -> bool:
    """Whether torch runs most of a member's convs, by their weights, in a kernel of its own for one sample; a packed conv has groups."""
    graph = network.member_template.graphs["eval"]
    if graph not in _native:
        _native[graph] = _is_mostly_native(graph)
    return _native[graph]


_native: WeakKeyDictionary[fx.Graph, bool] = WeakKeyDictionary()


def _is_mostly_native(graph: fx.Graph) -> bool:
    native = total = 0
    for node in graph.nodes:
        if node.op == "call_function" and node.target in CONVS:
            input_value, weight = (source.meta["val"] for source in node.args[:2])
            total += weight.numel()
            native += weight.numel() * _is_native(node, input_value, weight)
    return 2 * native > total


def _is_native(node: fx.Node, input_value: Tensor, weight: Tensor) -> bool:
    small = input_value.numel() // max(input_value.shape[0], 1) <= _NATIVE_NUMEL
    return conv_argument(node, "groups", 1) == 1 and small and min(weight.shape[2:]) <= 3
