"""Operators that treat every element alike: arithmetic, activations, comparisons, dropout. Widths pass through unchanged."""

from __future__ import annotations

from typing import Any

import torch

from packify.packing.members import FRONT
from packify.packing.ride import Ride, Rider, map_rides, rides_in
from packify.rules.creation import sized
from packify.rules.indexing import write_back
from packify.rules.scattering import own
from packify.tracing.names import RANDOM
from packify.widths.dims import Dim
from packify.widths.walk import Axes, Walk, tensors

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
special_xlog1py special_xlogy special_zeta
""".split()


def elementwise(walk: Walk, *args: Any, **kwargs: Any) -> Any:
    operands = tensors((args, kwargs))
    if not isinstance(walk.out, torch.Tensor):
        return walk.structure()
    if not operands:
        return sized(walk)
    dims = walk.broadcast(*operands)
    # In-place operators on a smaller tensor cannot change its shape; a size of 1 in the output never carries a width.
    return dims[len(dims) - walk.out.dim() :]


def cast(walk: Walk, x: Axes, *args: Any, **kwargs: Any) -> list[Dim]:
    """``x.to(other)``: of other tensors only the dtype and the device are read."""
    return x.dims


def ride_cast(rider: Rider, node: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    return rider.native(node, (x, *args), kwargs, x.axis)


def prelu(walk: Walk, x: Axes, weight: Axes) -> Any:
    if weight.dims and weight.val.numel() > 1 and len(x.dims) > 1:
        walk.equate(weight.dims[0], x.dims[1])
    return x.dims


# -- how members ride ----------------------------------------------------------------------------------------------------


def ride(rider: Rider, node: Any, *args: Any, **kwargs: Any) -> Any:
    """Broadcasting members together; what was written to a part of a tensor is written to the tensor."""
    made = _ride(rider, node, *args, **kwargs)
    if node.meta["inplace"]:
        write_back(rider, node, made)
    return made


def _ride(rider: Rider, node: Any, *args: Any, **kwargs: Any) -> Any:
    """Broadcasting members together: on a common axis where every operand has one, else on an axis of their own."""
    operands = rides_in((args, kwargs))
    value = node.meta["val"]
    random = node.meta["op"] in RANDOM and not (
        node.meta["op"] in ("dropout", "rrelu") and not any(r.packed for r in operands) and _is_off(args, kwargs)
    )
    if random and operands and not any(operand.packed for operand in operands):
        first = (
            rider.to(operands[0], 0)
            if operands[0].ndim
            else Ride(rider.emit(spread_front, operands[0], rider.members), FRONT, operands[0].val)
        )
        args, kwargs = map_first(args, kwargs, operands[0], first)
        operands = rides_in((args, kwargs))
    if not isinstance(value, torch.Tensor):
        return rider.fallback(node, args, kwargs) if any(operand.packed for operand in operands) else rider.native(node, args, kwargs, None)
    changed = operands[0] if node.meta["inplace"] and operands else None
    axis = common_axis(operands, value, changed)
    if axis is None:
        return rider.native(node, args, kwargs, None)
    if axis == FRONT:
        made = rider.again(
            node, map_rides(args, lambda r: _front(rider, r, value.dim())), map_rides(kwargs, lambda r: _front(rider, r, value.dim()))
        )
        return rider.back(made, value)
    back = axis - value.dim()
    if changed is not None and not changed.packed:
        args, kwargs = map_first(args, kwargs, changed, own(rider, changed, axis))
    args, kwargs = (map_rides(part, lambda r: _aligned(rider, r, back)) for part in (args, kwargs))
    return rider.native(node, args, kwargs, axis)


def _is_off(args: Any, kwargs: Any) -> bool:
    return kwargs.get("training", args[2] if len(args) > 2 else True) is False


def common_axis(operands: list[Ride], value: torch.Tensor, changed: Ride | None = None) -> int | None:
    """The axis of the output on which all packed operands can carry their members.

    None if none is packed, `FRONT` if there is no such axis.
    """
    packed = [operand for operand in operands if operand.axis is not None]
    if not packed:
        return None
    ndim = value.dim()
    for leader in sorted(packed, key=lambda r: (r is not changed, -r.val.numel())):
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


def _aligned(rider: Rider, ride: Ride, back: int) -> Ride:
    """An operand with its members on the common axis, counted from the back; a shared one that is constant along it stays."""
    if ride.axis is None and (ride.ndim < -back or ride.shape[back] == 1):
        return ride
    return rider.to(ride, ride.ndim + back)


def _front(rider: Rider, ride: Ride, ndim: int) -> Any:
    return rider.front(ride, ndim) if ride.packed else ride


def spread_front(tensor: torch.Tensor, members: int) -> torch.Tensor:
    """A shared scalar, once per member: ``"m"``."""
    return tensor.unsqueeze(0).repeat(members)


def map_first(args: Any, kwargs: Any, old: Ride, new: Ride) -> tuple[Any, Any]:
    """Arguments with one operand exchanged."""
    return tuple(map_rides(part, lambda r: new if r is old else r) for part in (args, kwargs))


def ride_prelu(rider: Rider, node: Any, x: Any, weight: Any) -> Any:
    if not weight.packed:
        return rider.native(node, (x, weight), {}, x.axis)
    if x.ndim < 2:
        return rider.fallback(node, (x, weight), {})
    x, weight = rider.to(x, 1), rider.to(weight, 0)
    if weight.val.numel() == 1 and x.shape[1] != 1:
        weight = rider.result(rider.emit(torch.repeat_interleave, weight, x.shape[1]), x.val.new_empty(x.shape[1]), 0)
    return rider.native(node, (x, weight), {}, 1)
