"""Operators that multiply and sum: linear, matmul, einsum, attention, embedding. Their weights decide widths."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F

from packify.nn.functional import grouped_linear, packed_embedding, packed_linear
from packify.nn.members import FRONT
from packify.ops.pointwise import common_axis
from packify.packing.builder import PackBuilder, PackedValue
from packify.widths.dims import Dim, fixed
from packify.widths.propagation import Axes, WidthPropagation


def linear(widths: WidthPropagation, input: Axes, weight: Axes, bias: Axes | None, **_: Any) -> list[Dim]:
    widths.equate(weight.dims[-1], input.dims[-1])
    widths.keep_frozen_constant(weight, weight.shape[-1])
    widths.reads(input.dims[-1])
    if input.learned:
        widths.layer(input.dims[-1])
    if weight.val.dim() == 1:
        return input.dims[:-1]
    widths.layer(weight.dims[0])
    if bias is not None and bias.val.dim():
        widths.equate(bias.dims[-1], weight.dims[0])
    return [*input.dims[:-1], weight.dims[0]]


def bilinear(widths: WidthPropagation, input1: Axes, input2: Axes, weight: Axes, bias: Axes | None) -> list[Dim]:
    for first, second in zip(input1.dims[:-1], input2.dims[:-1], strict=True):
        widths.equate(first, second)
    widths.equate(weight.dims[1], input1.dims[-1])
    widths.equate(weight.dims[2], input2.dims[-1])
    widths.layer(weight.dims[0])
    if bias is not None:
        widths.equate(bias.dims[0], weight.dims[0])
    return [*input1.dims[:-1], weight.dims[0]]


def embedding(widths: WidthPropagation, input: Axes, weight: Axes, **_: Any) -> list[Dim]:
    widths.pin(weight.dims[0], "a vocabulary")
    widths.layer(weight.dims[1])
    return [*input.dims, weight.dims[1]]


def matmul(widths: WidthPropagation, input: Axes, other: Axes) -> list[Dim]:
    left, right = list(input.dims), list(other.dims)
    a = left if len(left) > 1 else [fixed(1), *left]
    b = right if len(right) > 1 else [*right, fixed(1)]
    widths.equate(a[-1], b[-2])
    if other.weight and not input.weight and len(right) > 1:
        widths.layer(b[-1])
        widths.reads(a[-1])
    if input.weight and not other.weight and len(left) > 1:
        widths.layer(a[-2])
        widths.reads(b[-2])
    lead = _broadcast_dims(widths, a[:-2], b[:-2])
    if not (input.weight or other.weight):
        widths.batched(lead)
    return [*lead, *(a[-2:-1] if len(left) > 1 else []), *(b[-1:] if len(right) > 1 else [])]


def _broadcast_dims(widths: WidthPropagation, a: list[Dim], b: list[Dim]) -> list[Dim]:
    width = max(len(a), len(b))
    a, b = [fixed(1)] * (width - len(a)) + a, [fixed(1)] * (width - len(b)) + b
    result = []
    for x, y in zip(a, b, strict=True):
        if x.root().size == 1 or y.root().size == 1:
            result.append(y if x.root().size == 1 else x)
        else:
            widths.equate(x, y)
            result.append(x)
    return result


def addmm(widths: WidthPropagation, input: Axes, mat1: Axes, mat2: Axes, **_: Any) -> list[Dim]:
    dims = matmul(widths, mat1, mat2)
    lead = len(dims) - len(input.dims)
    for dim, own in zip(dims[lead:], input.dims, strict=True):
        if own.root().size == dim.root().size:
            widths.equate(dim, own)
    return dims


def attention(widths: WidthPropagation, query: Axes, key: Axes, value: Axes, attn_mask: Axes | None, **_: Any) -> list[Dim]:
    widths.equate(query.dims[-1], key.dims[-1])
    widths.equate(key.dims[-2], value.dims[-2])
    lead = _broadcast_dims(widths, query.dims[:-2], key.dims[:-2]) if query.shape[:-2] == key.shape[:-2] else query.dims[:-2]
    for axis, dim in enumerate(reversed(value.dims[:-2]), 1):
        if lead[-axis].root().size == dim.root().size:
            widths.equate(lead[-axis], dim)
    widths.batched(lead)
    for dims in (query.dims[-2:-1], key.dims[-2:-1]):
        for dim in dims:
            widths.pin(dim, "a number of tokens")
    if attn_mask is not None:
        for dim, other in zip(reversed(attn_mask.dims), reversed([*lead, query.dims[-2], key.dims[-2]]), strict=False):
            if dim.root().size == other.root().size:
                widths.equate(dim, other)
    return [*lead, query.dims[-2], value.dims[-1]]


def einsum(widths: WidthPropagation, equation: str, operands: tuple[Axes, ...]) -> list[Dim]:
    inputs = list(operands)
    terms, output = einsum_terms(equation, [len(axes.dims) for axes in inputs])
    known: dict[str, Dim] = {}
    for axes, term in zip(inputs, terms, strict=True):
        for label, dim in zip(term, axes.dims, strict=True):
            if label in known and known[label].root().size == dim.root().size:
                widths.equate(known[label], dim)
            elif label not in known or known[label].root().size == 1:
                known[label] = dim
    for axes, term in zip(inputs, terms, strict=True):
        others = {label for other, labels in zip(inputs, terms, strict=True) if other is not axes for label in labels}
        if axes.weight and not all(other.weight for other in inputs):
            written = [label for label in output if label in term and label not in others]
            for label in written[-1:]:  # what stands before it counts heads or groups, as in ``"bnd,hkd->bnhk"``
                widths.layer(dict(zip(term, axes.dims, strict=True))[label])
    widths.batched(known[label] for label in _batch_labels(inputs, terms, output))
    return [known[label] for label in output]


def _batch_labels(inputs: list[Axes], terms: list[str], output: str) -> list[str]:
    """What two activations have in common with the output, where they sum over something else."""
    activations = [term for axes, term in zip(inputs, terms, strict=True) if not axes.weight]
    if all(label in output for term in activations for label in term):
        return []
    return [label for label in output if sum(label in term for term in activations) > 1]


def einsum_terms(equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """The labels of every operand and of the output, ellipses written out with capitals that the equation does not use."""
    left, arrow, output = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    spare = [chr(code) for code in range(0x391, 0x391 + 26)]
    widest = max((rank - len(term.replace("...", "")) for term, rank in zip(terms, ranks, strict=True) if "..." in term), default=0)
    dots = "".join(spare[:widest])
    full = [term.replace("...", dots[widest - (rank - len(term.replace("...", ""))) :]) for term, rank in zip(terms, ranks, strict=True)]
    if not arrow:
        labels = "".join(terms).replace("...", "")
        output = ("..." if "..." in left else "") + "".join(sorted(label for label in set(labels) if labels.count(label) == 1))
    return full, output.replace("...", dots)


# -- how members are packed --------------------------------------------------------------------------------------------


def pack_linear(builder: PackBuilder, node: Any, input: Any, weight: Any, bias: Any, groups: int, parts: Sequence[int]) -> Any:
    """A shared input needs one ordinary matmul; a packed one is a batched matmul with the members in front."""
    value, subgroups = node.meta["val"], (parts,) if parts else ()
    weight, bias = member_major(builder, weight), member_major(builder, bias)
    if not (input.packed or weight.packed or (bias is not None and bias.packed)):
        return builder.call(node, None)
    if weight.ndim == 1 or (bias is not None and bias.packed != weight.packed):
        return builder.fallback(node)
    if not weight.packed:
        if input.axis == input.ndim - 1 or input.axis == FRONT:
            return builder.back(builder.emit(grouped_linear, builder.front(input), weight, bias, groups, *subgroups), value)
        return builder.result(builder.emit(grouped_linear, input, weight, bias, groups, *subgroups), value, input.axis)
    if not input.packed and groups == 1:
        return builder.result(builder.emit(F.linear, input, weight, bias), value, value.dim() - 1)
    if not input.packed:
        input = builder.to(input, 0)
    return builder.back(builder.emit(packed_linear, builder.front(input), weight, bias, builder.members, groups, *subgroups), value)


def member_major(builder: PackBuilder, parameter: Any) -> Any:
    """A parameter with its members on the leading axis."""
    return builder.to(parameter, 0) if isinstance(parameter, PackedValue) and parameter.packed else parameter


def pack_matmul(builder: PackBuilder, node: Any, input: Any, other: Any) -> Any:
    value = node.meta["val"]
    if not (input.packed or other.packed):
        return builder.call(node, None)
    if min(input.ndim, other.ndim) < 2:
        return _matmul_with_vector(builder, node, input, other)
    axis = common_axis([input, other], value)
    batched = axis is not None and axis != FRONT and axis < value.dim() - 2
    if batched and input.packed and other.packed:
        back = int(axis or 0) - value.dim()
        return builder.call(node, axis, input=builder.to(input, input.ndim + back), other=builder.to(other, other.ndim + back))
    if node.meta["op"] != "matmul":
        return builder.back(builder.emit(torch.matmul, builder.front(input), builder.front(other)), value)
    ndim = max(input.ndim, other.ndim)
    return builder.back(builder.emit(torch.matmul, builder.front(input, ndim), builder.front(other, ndim)), value)


def _matmul_with_vector(builder: PackBuilder, node: Any, input: Any, other: Any) -> Any:
    """A vector becomes a matrix of one row or column, whose axis goes away again."""
    value = node.meta["val"]
    left = builder.emit(torch.unsqueeze, builder.front(input), -2) if input.ndim == 1 else builder.front(input, max(input.ndim, other.ndim))
    right = (
        builder.emit(torch.unsqueeze, builder.front(other), -1) if other.ndim == 1 else builder.front(other, max(input.ndim, other.ndim))
    )
    for _ in range(max(input.ndim, other.ndim) - 2):
        left = builder.emit(torch.unsqueeze, left, 1) if input.ndim == 1 and input.packed else left
        right = builder.emit(torch.unsqueeze, right, 1) if other.ndim == 1 and other.packed else right
    made = builder.emit(torch.matmul, left, right)
    made = builder.emit(torch.squeeze, made, -1) if other.ndim == 1 else made
    made = builder.emit(torch.squeeze, made, -1 if other.ndim == 1 else -2) if input.ndim == 1 else made
    return builder.back(made, value)


def pack_addmm(builder: PackBuilder, node: Any, input: Any, mat1: Any, mat2: Any, beta: float, alpha: float) -> Any:
    if not any(tensor.packed for tensor in (input, mat1, mat2)):
        return builder.call(node, None)
    if node.meta["op"] not in ("addmm", "baddbmm"):
        return builder.fallback(node)
    product_ = builder.emit(torch.matmul, builder.front(mat1), builder.front(mat2))
    scaled = product_ if alpha == 1 else builder.emit(torch.mul, product_, alpha)
    own = builder.front(input, node.meta["val"].dim())
    own = own if beta == 1 else builder.emit(torch.mul, own, beta)
    return builder.back(builder.emit(torch.add, own, scaled), node.meta["val"])


def pack_attention(builder: PackBuilder, node: Any, query: Any, key: Any, value: Any, attn_mask: Any, **_: Any) -> Any:
    operands = [tensor for tensor in (query, key, value, attn_mask) if isinstance(tensor, PackedValue)]
    if not any(tensor.packed for tensor in operands):
        return builder.call(node, None)
    if min(tensor.ndim for tensor in (query, key, value)) < 3 or node.meta["val"].dim() != query.ndim:
        return builder.fallback(node)
    query, key, value = (builder.to(tensor, 0) for tensor in (query, key, value))
    if isinstance(attn_mask, PackedValue) and attn_mask.packed:
        attn_mask = _mask_per_batch(builder, attn_mask, query)
    elif isinstance(attn_mask, PackedValue) and attn_mask.ndim == query.ndim and attn_mask.shape[0] != 1:
        attn_mask = builder.to(attn_mask, 0)
    return builder.call(node, 0, query=query, key=key, value=value, **({} if attn_mask is None else {"attn_mask": attn_mask}))


def _mask_per_batch(builder: PackBuilder, mask: PackedValue, query: PackedValue) -> PackedValue:
    """A packed mask, ``(m 1) h l s`` or ``(m h) l s``, as ``(m b) h l s``."""
    if mask.ndim == query.ndim and mask.shape[0] == query.shape[0]:
        return builder.to(mask, 0)
    wide = builder.front(mask, query.ndim)
    batch = builder.method("size", query, 0)
    batch = builder.emit(operator.floordiv, batch, builder.members)
    expanded = builder.emit(torch.Tensor.expand, wide, builder.members, batch, *[-1] * (query.ndim - 1))
    padded = mask.val.reshape(*[1] * (query.ndim - mask.ndim), *mask.shape)
    made: PackedValue = builder.back(expanded, padded.expand(query.shape[0], *padded.shape[1:]))
    return made


def pack_einsum(builder: PackBuilder, node: Any, equation: str, operands: Any) -> Any:
    if not any(tensor.packed for tensor in operands):
        return builder.call(node, None)
    return _labelled(builder, node, equation, list(operands))


def _labelled(builder: PackBuilder, node: Any, equation: str, inputs: list[PackedValue]) -> Any:
    """An einsum with one more label, for the members."""
    left, arrow, output = equation.replace(" ", "").partition("->")
    if not arrow:
        terms, labels = einsum_terms(equation, [tensor.ndim for tensor in inputs])
        left, output = ",".join(terms), labels
    free_label = next(label for label in "zyxwvutsrqponmlkjihgfedcbaZYXWVUTSRQPONMLKJIHGFEDCBA" if label not in equation)
    terms = [free_label + term if tensor.packed else term for term, tensor in zip(left.split(","), inputs, strict=True)]
    made = builder.emit(torch.einsum, f"{','.join(terms)}->{free_label}{output}", *(builder.front(tensor) for tensor in inputs))
    return builder.back(made, node.meta["val"])


def pack_bilinear(builder: PackBuilder, node: Any, input1: Any, input2: Any, weight: Any, bias: Any) -> Any:
    """``b i, o i j, b j -> b o``, with the members in front."""
    operands = [tensor for tensor in (input1, input2, weight, bias) if tensor is not None]
    if not any(tensor.packed for tensor in operands):
        return builder.call(node, None)
    if not weight.packed or (bias is not None and not bias.packed):
        return builder.fallback(node)
    first, second = (f"{'m' if tensor.packed else ''}...{label}" for tensor, label in ((input1, "i"), (input2, "j")))
    made = builder.emit(torch.einsum, f"{first},moij,{second}->m...o", builder.front(input1), builder.front(weight), builder.front(input2))
    if bias is not None:
        made = builder.emit(torch.add, made, builder.front(bias, node.meta["val"].dim()))
    return builder.back(made, node.meta["val"])


def outer(widths: WidthPropagation, input: Axes, vec2: Axes) -> list[Dim]:
    """``i, j -> i j``."""
    return [input.dims[0], vec2.dims[0]]


def pack_outer(builder: PackBuilder, node: Any, input: Any, vec2: Any) -> Any:
    if not (input.packed or vec2.packed):
        return builder.call(node, None)
    column, row = builder.emit(torch.unsqueeze, builder.front(input), -1), builder.emit(torch.unsqueeze, builder.front(vec2), -2)
    return builder.back(builder.emit(torch.mul, column, row), node.meta["val"])


def tensordot_equation(ndims: tuple[int, int], dims: Any) -> str:
    """A tensordot as an einsum."""
    if isinstance(dims, int):
        dims = (list(range(ndims[0] - dims, ndims[0])), list(range(dims)))
    labels = iter("abcdefghijklmnopqrstuvwxyz")
    left = [next(labels) for _ in range(ndims[0])]
    right = [next(labels) for _ in range(ndims[1])]
    for a, b in zip(*dims, strict=True):
        right[b] = left[a]
    output = [label for label in left if label not in right] + [label for label in right if label not in left]
    return f"{''.join(left)},{''.join(right)}->{''.join(output)}"


def tensordot(widths: WidthPropagation, a: Axes, b: Axes, dims: Any, **_: Any) -> list[Dim]:
    return einsum(widths, tensordot_equation((len(a.dims), len(b.dims)), dims), (a, b))


def pack_tensordot(builder: PackBuilder, node: Any, a: Any, b: Any, dims: Any, **_: Any) -> Any:
    if not (a.packed or b.packed):
        return builder.call(node, None)
    return _labelled(builder, node, tensordot_equation((a.ndim, b.ndim), dims), [a, b])


def pack_embedding(builder: PackBuilder, node: Any, input: Any, weight: Any, padding_idx: Any, **others: Any) -> Any:
    if not weight.packed:
        return builder.call(node, input.axis)
    if any(others[name] for name in ("max_norm", "scale_grad_by_freq", "sparse")):
        return builder.fallback(node)
    weight = builder.to(weight, 0)
    made = builder.emit(packed_embedding, builder.front(input), weight, builder.members, input.packed, padding_idx)
    return builder.back(made, node.meta["val"])
