"""Mult-Adds of one operator: a table from the operator's canonical name to a formula over shapes.

The convention ``macs``: one multiply-accumulate of a contraction counts one; convolutions, linear layers, matrix products, attention,
einsum and recurrent layers are counted; biases, norms, pointwise work, pooling, interpolation and FFTs are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from packify.budgets.einsum import einsum_mult_adds

Counter = Callable[["Call", Any], int]


class Call:
    """The arguments of one operator, by position or by name, as meta tensors and plain values."""

    def __init__(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self.args = args
        self.kwargs = kwargs

    def get(self, index: int, *names: str) -> Any:
        """The argument at a position or under one of its names, else None."""
        for name in names:
            if name in self.kwargs:
                return self.kwargs[name]
        return self.args[index] if index < len(self.args) else None

    def tensor(self, index: int, *names: str) -> Tensor:
        """The same for an argument that must be a tensor."""
        value = self.get(index, *names)
        if not isinstance(value, Tensor):
            raise TypeError(f"argument {index} ({'/'.join(names)}) is {type(value).__name__}, not a tensor")
        return value


def op_mult_adds(op: str, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> int:
    """Mult-Adds of one call of a functional operator; 0 for operators that contract nothing."""
    counter = COUNTERS.get(op)
    return 0 if counter is None else counter(Call(args, kwargs), output)


def module_mult_adds(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> int:
    """Mult-Adds of one call of a module that the tracer kept whole."""
    for kind, counter in MODULE_COUNTERS.items():
        if isinstance(module, kind):
            return counter(module, Call(args, kwargs))
    if isinstance(module, UNCOUNTED) or not any(True for _ in module.parameters()):
        return 0
    return _measured(module, args, kwargs)


def _conv(call: Call, output: Tensor) -> int:
    """``"b (g c) *i", "(g o) c *k" -> "b (g o) *o"``: every output value sums over one group's channels and the kernel."""
    return output.numel() * _fan_in(call.tensor(1, "weight"))


def _conv_transpose(call: Call, output: Tensor) -> int:
    """``"b (g c) *i", "(g c) o *k"``: every input value is multiplied by one group's outputs and the kernel."""
    return call.tensor(0, "input").numel() * _fan_in(call.tensor(1, "weight"))


def _deform_conv(call: Call, output: Tensor) -> int:
    return output.numel() * _fan_in(call.tensor(2, "weight"))


def _fan_in(weight: Tensor) -> int:
    return math.prod(weight.shape[1:])


def _linear(call: Call, output: Tensor) -> int:
    """``"... i", "o i -> ... o"``; the weight's second axis is the fan-in of a layer cut into subgroups, too."""
    return output.numel() * call.tensor(1, "weight").shape[-1]


def _product(index: int, *names: str) -> Counter:
    """Products whose every output value sums over the last axis of one operand."""

    def count(call: Call, output: Tensor) -> int:
        return output.numel() * call.tensor(index, *names).shape[-1]

    return count


def _addbmm(call: Call, output: Tensor) -> int:
    """``"b n k", "b k m" -> "n m"``, summed over the batch."""
    return call.tensor(1, "batch1").numel() * output.shape[-1]


def _tensordot(call: Call, output: Tensor) -> int:
    """Both operands hold the contracted axes once, so numel(a) * numel(b) = numel(out) * contracted^2."""
    a, b = call.tensor(0, "a", "input"), call.tensor(1, "b", "other")
    return math.isqrt(a.numel() * b.numel() * output.numel())


def _bilinear(call: Call, output: Tensor) -> int:
    """``"n i", "o i j" -> "n o j"``, then ``"n o j", "n j" -> "n o"``."""
    _, first, second = call.tensor(2, "weight").shape
    return output.numel() * (first * second + second)


def _einsum(call: Call, output: Tensor) -> int:
    equation = call.get(0, "equation")
    rest = call.args[1:]
    if isinstance(equation, str):
        operands = rest[0] if len(rest) == 1 and isinstance(rest[0], (list, tuple)) else rest
        return einsum_mult_adds(equation, [tuple(operand.shape) for operand in operands])
    return einsum_mult_adds(*_from_sublists(call.args))


def _from_sublists(args: Sequence[Any]) -> tuple[str, list[tuple[int, ...]]]:
    """``einsum(x, [0, 1], y, [1, 2], [0, 2])`` as an equation and shapes."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

    def spelled(axes: Sequence[Any]) -> str:
        return "".join("..." if axis is Ellipsis else letters[axis] for axis in axes)

    operands, axes = args[0 : len(args) - len(args) % 2 : 2], args[1::2]
    equation = ",".join(map(spelled, axes)) + ("->" + spelled(args[-1]) if len(args) % 2 else "")
    return equation, [tuple(operand.shape) for operand in operands]


def _attention(call: Call, output: Tensor) -> int:
    """``"*b l e", "*b s e" -> "*b l s"``, then ``"*b l s", "*b s v" -> "*b l v"``.

    A mask, causal or not, saves nothing; key heads that several query heads share count once for each.
    """
    query, key = call.tensor(0, "query"), call.tensor(1, "key")
    scores = math.prod(output.shape[:-1]) * key.shape[-2]
    return scores * (query.shape[-1] + output.shape[-1])


def _multi_head_attention(call: Call, output: Any) -> int:
    """`F.multi_head_attention_forward`: three projections in, two products, one projection out; ``"l b e"`` or ``"l e"``."""
    query, key, value = call.tensor(0, "query"), call.tensor(1, "key"), call.tensor(2, "value")
    width = query.shape[-1]
    length, source = query.shape[0], key.shape[0]
    batch = query.shape[1] if query.dim() == 3 else 1
    projections = 2 * query.numel() * width + (key.numel() + value.numel()) * width
    return projections + 2 * batch * length * source * width


def _cell(call: Call, output: Any) -> int:
    """`torch.lstm_cell` and its kind: ``(x, state, w_ih, w_hh, ...)``."""
    x = call.tensor(0, "input")
    rows = math.prod(x.shape[:-1])
    return rows * (call.tensor(2, "w_ih").numel() + call.tensor(3, "w_hh").numel())


def _chain(call: Call, output: Any) -> int:
    """`torch.linalg.multi_dot` and `chain_matmul`: the cheapest order, as torch chooses it."""
    matrices = call.args[0] if isinstance(call.args[0], (list, tuple)) else call.args
    shapes = [tuple(matrix.shape) for matrix in matrices]
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


COUNTERS: Mapping[str, Counter] = {
    "conv1d": _conv,
    "conv2d": _conv,
    "conv3d": _conv,
    "conv_transpose1d": _conv_transpose,
    "conv_transpose2d": _conv_transpose,
    "conv_transpose3d": _conv_transpose,
    "deform_conv2d": _deform_conv,
    "linear": _linear,
    "matmul": _product(0, "input"),
    "linalg_matmul": _product(0, "input"),
    "mm": _product(0, "input"),
    "bmm": _product(0, "input"),
    "mv": _product(0, "input"),
    "dot": _product(0, "input"),
    "vdot": _product(0, "input"),
    "inner": _product(0, "input"),
    "addmm": _product(1, "mat1"),
    "addmv": _product(1, "mat"),
    "baddbmm": _product(1, "batch1"),
    "addbmm": _addbmm,
    "tensordot": _tensordot,
    "einsum": _einsum,
    "bilinear": _bilinear,
    "scaled_dot_product_attention": _attention,
    "multi_head_attention_forward": _multi_head_attention,
    "lstm_cell": _cell,
    "gru_cell": _cell,
    "rnn_tanh_cell": _cell,
    "rnn_relu_cell": _cell,
    "multi_dot": _chain,
    "linalg_multi_dot": _chain,
    "chain_matmul": _chain,
}


def _recurrent(module: nn.Module, call: Call) -> int:
    """Every step (of a cell, the only one) multiplies by every weight matrix once, in every layer and direction."""
    x = call.tensor(0, "input")
    return math.prod(x.shape[:-1]) * sum(parameter.numel() for name, parameter in module.named_parameters() if name.startswith("weight"))


MODULE_COUNTERS: Mapping[type[nn.Module], Callable[[nn.Module, Call], int]] = {
    nn.RNNBase: _recurrent,
    nn.RNNCellBase: _recurrent,
}
UNCOUNTED = (
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.Embedding,
    nn.EmbeddingBag,
    nn.PReLU,
)


def _measured(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    """A leaf with weights and no formula of its own: run once more on meta tensors and counted operator by operator."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*args, **kwargs)
    return int(counter.get_total_flops()) // 2
