"""Operators that treat every element alike: arithmetic, activations, comparisons, dropout. Widths pass through unchanged."""

from __future__ import annotations

from typing import Any

import torch

from packify.capture.operators import RANDOM
from packify.nn.members import FRONT
from packify.ops.creation import sized
from packify.packing.builder import PackBuilder, PackedValue, map_packed_values, packed_values_in
from packify.widths.dims import Dim
from packify.widths.propagation import Axes, WidthPropagation, tensors

NAMES = """
add sub rsub mul div rdiv pow rpow mod floordiv rfloordiv neg pos abs exp exp2 expm1 log log2 log10 log1p sqrt rsqrt square
reciprocal sign sgn sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh atan2 erf erfc erfinv sigmoid logsigmoid logit
softplus softsign relu relu6 elu selu celu gelu silu mish hardtanh hardsigmoid hardswish leaky_relu hardshrink softshrink
tanhshrink threshold clamp clamp_min clamp_max floor ceil round trunc frac eq ne lt le gt ge and or xor invert not logical_and
logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not bitwise_xor maximum minimum fmax fmin isnan isinf isfinite
nan_to_num where masked_fill lerp addcmul addcdiv heaviside hypot copysign xlogy sinc deg2rad rad2deg float double half bfloat16
int long bool byte short cpu cuda contiguous clone detach alias data fill zero copy real imag conj angle lgamma digamma positive
feature_alpha_dropout dropout dropout1d dropout2d dropout3d alpha_dropout rrelu bernoulli uniform normal exponential log_normal
cauchy geometric random rand_like randn_like zeros_like ones_like full_like empty_like randint_like requires_grad relu_ identity
polar complex ldexp gumbel_softmax trunc_normal arccos arccosh arcsin arcsinh arctan arctan2 arctanh lshift rshift rlshift rrshift
bitwise_left_shift bitwise_right_shift radd rmul rmod ror rxor cdouble cfloat chalf float_power fix i0 igamma igammac isclose
isneginf isposinf isreal greater greater_equal less less_equal not_equal logaddexp logaddexp2 gcd lcm nextafter mvlgamma polygamma
signbit resolve_conj resolve_neg pin_memory binomial poisson detach_copy feature_dropout log_sigmoid _threshold special_entr
special_erf special_erfc special_erfinv special_erfcx special_exp2 special_expm1 special_gammaln special_i0 special_i0e special_i1
special_i1e special_log1p special_log_ndtr special_logit special_ndtr special_ndtri special_psi special_round special_sinc
special_xlog1py special_xlogy special_zeta with_data
""".split()


def elementwise(widths: WidthPropagation, *args: Any, **kwargs: Any) -> Any:
    operands = tensors((args, kwargs))
    if not isinstance(widths.out, torch.Tensor):
        return widths.structure()
    if not operands:
        return sized(widths)
    dims = widths.broadcast(*operands)
    return dims[len(dims) - widths.out.dim() :]


def cast(widths: WidthPropagation, x: Axes, *args: Any, **kwargs: Any) -> list[Dim]:
    """``x.to(other)``: of other tensors only the dtype and the device are read."""
    return x.dims


def pack_cast(builder: PackBuilder, node: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    return builder.native(node, (x, *args), kwargs, x.axis)


def prelu(widths: WidthPropagation, x: Axes, weight: Axes) -> Any:
    if weight.dims and weight.val.numel() > 1 and len(x.dims) > 1:
        widths.equate(weight.dims[0], x.dims[1])
    return x.dims


# -- how members are packed --------------------------------------------------------------------------------------------


def pack(builder: PackBuilder, node: Any, *args: Any, **kwargs: Any) -> Any:
    """Broadcasting members together: on a common axis where every operand has one, else on an axis of their own."""
    operands = packed_values_in((args, kwargs))
    value = node.meta["val"]
    random = node.meta["op"] in RANDOM and not (
        node.meta["op"] in ("dropout", "rrelu") and not any(r.packed for r in operands) and _is_off(args, kwargs)
    )
    if random and operands and not any(operand.packed for operand in operands):
        first = (
            builder.to(operands[0], 0)
            if operands[0].ndim
            else PackedValue(builder.emit(spread_front, operands[0], builder.members), FRONT, operands[0].val)
        )
        args, kwargs = map_first(args, kwargs, operands[0], first)
        operands = packed_values_in((args, kwargs))
    if not isinstance(value, torch.Tensor):
        return (
            builder.fallback(node, args, kwargs)
            if any(operand.packed for operand in operands)
            else builder.native(node, args, kwargs, None)
        )
    axis = common_axis(operands, value)
    if axis is None:
        return builder.native(node, args, kwargs, None)
    if axis == FRONT:
        made = builder.again(
            node,
            map_packed_values(args, lambda r: _front(builder, r, value.dim())),
            map_packed_values(kwargs, lambda r: _front(builder, r, value.dim())),
        )
        return builder.back(made, value)
    back = axis - value.dim()
    args, kwargs = (map_packed_values(part, lambda r: _aligned(builder, r, back)) for part in (args, kwargs))
    return builder.native(node, args, kwargs, axis)


def _is_off(args: Any, kwargs: Any) -> bool:
    return kwargs.get("training", args[2] if len(args) > 2 else True) is False


def common_axis(operands: list[PackedValue], value: torch.Tensor) -> int | None:
    """The axis of the output on which all packed operands can carry their members.

    None if none is packed, `FRONT` if there is no such axis.
    """
    packed = [operand for operand in operands if operand.axis is not None]
    if not packed:
        return None
    ndim = value.dim()
    for leader in sorted(packed, key=lambda r: -r.val.numel()):
        if leader.axis == FRONT:
            continue
        back = int(leader.axis or 0) - leader.ndim
        axis = ndim + back
        if axis < 0:
            continue
        size = value.shape[axis]
        fits = all(other.axis != FRONT and other.ndim >= -back and other.shape[back] == size for other in packed)
        return axis if fits else FRONT
    return FRONT


def _aligned(builder: PackBuilder, tensor: PackedValue, back: int) -> PackedValue:
    """An operand with its members on the common axis, counted from the back; a shared one that is constant along it stays."""
    if tensor.axis is None and (tensor.ndim < -back or tensor.shape[back] == 1):
        return tensor
    return builder.to(tensor, tensor.ndim + back)


def _front(builder: PackBuilder, tensor: PackedValue, ndim: int) -> Any:
    return builder.front(tensor, ndim) if tensor.packed else tensor


def spread_front(tensor: torch.Tensor, members: int) -> torch.Tensor:
    """A shared scalar, once per member: ``"m"``."""
    return tensor.unsqueeze(0).repeat(members)


def map_first(args: Any, kwargs: Any, old: PackedValue, new: PackedValue) -> tuple[Any, Any]:
    """Arguments with one operand exchanged."""
    return tuple(map_packed_values(part, lambda r: new if r is old else r) for part in (args, kwargs))


def pack_prelu(builder: PackBuilder, node: Any, x: Any, weight: Any) -> Any:
    if not weight.packed:
        return builder.native(node, (x, weight), {}, x.axis)
    if x.ndim < 2:
        return builder.fallback(node, (x, weight), {})
    x, weight = builder.to(x, 1), builder.to(weight, 0)
    if weight.val.numel() == 1 and x.shape[1] != 1:
        weight = builder.result(builder.emit(torch.repeat_interleave, weight, x.shape[1]), x.val.new_empty(x.shape[1]), 0)
    return builder.native(node, (x, weight), {}, 1)
