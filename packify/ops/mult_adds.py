"""Mult-Adds of operators, as formulas over shapes; the rows of the table name them.

The convention ``macs``: one multiply-accumulate of a contraction counts one; convolutions, linear layers, matrix products, attention,
einsum and recurrent layers are counted; biases, norms, pointwise work, pooling, interpolation and FFTs are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from packify.ops.einsum_cost import einsum_mult_adds


def nothing(output: Any, /, *_: Any, **__: Any) -> int:
    """Work that is not counted."""
    return 0


def conv(output: Tensor, weight: Tensor, **_: Any) -> int:
    """``"b (g c) *i", "(g o) c *k" -> "b (g o) *o"``: every output value sums over one group's channels and the kernel."""
    return output.numel() * _fan_in(weight)


def conv_transpose(output: Tensor, input: Tensor, weight: Tensor, **_: Any) -> int:
    """``"b (g c) *i", "(g c) o *k"``: every input value is multiplied by one group's outputs and the kernel."""
    return input.numel() * _fan_in(weight)


def _fan_in(weight: Tensor) -> int:
    return math.prod(weight.shape[1:])


def linear(output: Tensor, weight: Tensor, **_: Any) -> int:
    """``"... i", "o i -> ... o"``; the weight's second axis is the fan-in of a layer cut into subgroups, too."""
    return output.numel() * weight.shape[-1]


def product(name: str) -> Callable[..., int]:
    """Products whose every output value sums over the last axis of the operand of that name."""

    def count(output: Tensor, **arguments: Any) -> int:
        return output.numel() * int(arguments[name].shape[-1])

    return count


def addbmm(output: Tensor, mat1: Tensor, **_: Any) -> int:
    """``"b n k", "b k m" -> "n m"``, summed over the batch."""
    return mat1.numel() * output.shape[-1]


def tensordot(output: Tensor, a: Tensor, b: Tensor, **_: Any) -> int:
    """Both operands hold the contracted axes once, so numel(a) * numel(b) = numel(out) * contracted^2."""
    return math.isqrt(a.numel() * b.numel() * output.numel())


def bilinear(output: Tensor, weight: Tensor, **_: Any) -> int:
    """``"n i", "o i j" -> "n o j"``, then ``"n o j", "n j" -> "n o"``."""
    first, second = weight.shape[1:]
    return output.numel() * (first * second + second)


def einsum(output: Tensor, equation: Any, operands: Sequence[Any]) -> int:
    if isinstance(equation, str):
        return einsum_mult_adds(equation, [tuple(operand.shape) for operand in operands])
    return einsum_mult_adds(*_from_sublists((equation, *operands)))


def _from_sublists(args: Sequence[Any]) -> tuple[str, list[tuple[int, ...]]]:
    """``einsum(x, [0, 1], y, [1, 2], [0, 2])`` as an equation and shapes."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

    def spelled(axes: Sequence[Any]) -> str:
        return "".join("..." if axis is Ellipsis else letters[axis] for axis in axes)

    operands, axes = args[0 : len(args) - len(args) % 2 : 2], args[1::2]
    equation = ",".join(map(spelled, axes)) + ("->" + spelled(args[-1]) if len(args) % 2 else "")
    return equation, [tuple(operand.shape) for operand in operands]


def attention(output: Tensor, query: Tensor, key: Tensor, **_: Any) -> int:
    """``"*b l e", "*b s e" -> "*b l s"``, then ``"*b l s", "*b s v" -> "*b l v"``.

    A mask, causal or not, saves nothing; key heads that several query heads share count once for each.
    """
    scores = math.prod(output.shape[:-1]) * key.shape[-2]
    return scores * (query.shape[-1] + output.shape[-1])


def multi_head_attention(output: Any, query: Tensor, key: Tensor, value: Tensor, **_: Any) -> int:
    """`F.multi_head_attention_forward`: three projections in, two products, one projection out; ``"l b e"`` or ``"l e"``."""
    width = query.shape[-1]
    length, source = query.shape[0], key.shape[0]
    batch = query.shape[1] if query.dim() == 3 else 1
    projections = 2 * query.numel() * width + (key.numel() + value.numel()) * width
    return projections + 2 * batch * length * source * width


def cell(output: Any, input: Tensor, w_ih: Tensor, w_hh: Tensor, **_: Any) -> int:
    """`torch.lstm_cell` and its kind: ``(x, state, w_ih, w_hh, ...)``."""
    return math.prod(input.shape[:-1]) * (w_ih.numel() + w_hh.numel())


def chain(output: Any, tensors: Sequence[Tensor], **_: Any) -> int:
    """`torch.linalg.multi_dot` and `chain_matmul`: the cheapest order, as torch chooses it."""
    shapes = [tuple(matrix.shape) for matrix in tensors]
    if len(shapes[0]) == 1:
        shapes[0] = (1, *shapes[0])
    if len(shapes[-1]) == 1:
        shapes[-1] = (*shapes[-1], 1)
    sizes = [shapes[0][0], *(shape[1] for shape in shapes)]
    count = len(shapes)
    best = {(i, i): 0 for i in range(count)}
    for span in range(1, count):
        for i in range(count - span):
            j = i + span
            best[i, j] = min(best[i, k] + best[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1] for k in range(i, j))
    return best[0, count - 1]


def recurrent(output: Any, module: nn.Module, input: Tensor, **_: Any) -> int:
    """Every step (of a cell, the only one) multiplies by every weight matrix once, in every layer and direction."""
    weights = sum(parameter.numel() for name, parameter in module.named_parameters() if name.startswith("weight"))
    return math.prod(input.shape[:-1]) * weights
