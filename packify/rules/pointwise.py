"""Operators that treat every element alike: arithmetic, activations, comparisons, dropout. Widths pass through unchanged."""

from __future__ import annotations

from typing import Any

import torch

from packify.widths.walk import Axes, Walk, tensors

NAMES = """
add sub rsub mul div rdiv pow rpow mod floordiv rfloordiv neg pos abs exp exp2 expm1 log log2 log10 log1p sqrt rsqrt square reciprocal sign sgn sin cos tan
asin acos atan sinh cosh tanh asinh acosh atanh atan2 erf erfc erfinv sigmoid logsigmoid logit softplus softsign relu relu6 elu selu celu gelu silu
mish hardtanh hardsigmoid hardswish leaky_relu hardshrink softshrink tanhshrink threshold clamp clamp_min clamp_max floor ceil round trunc frac
eq ne lt le gt ge and or xor invert not logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not bitwise_xor maximum minimum fmax fmin isnan isinf isfinite
nan_to_num where masked_fill lerp addcmul addcdiv heaviside hypot
copysign xlogy sinc deg2rad rad2deg to type type_as float double half bfloat16 int long bool byte short cpu cuda contiguous clone detach alias data
fill zero copy real imag conj angle lgamma digamma positive feature_alpha_dropout dropout dropout1d dropout2d dropout3d alpha_dropout rrelu
bernoulli uniform normal exponential log_normal cauchy geometric random rand_like randn_like zeros_like ones_like full_like empty_like randint_like new_tensor
requires_grad relu_ checkpoint identity polar complex ldexp gumbel_softmax trunc_normal
""".split()


def elementwise(walk: Walk, *args: Any, **kwargs: Any) -> Any:
    operands = tensors((args, kwargs))
    if not operands or not isinstance(walk.out, torch.Tensor):
        return walk.structure()
    dims = walk.broadcast(*operands)
    # In-place operators on a smaller tensor cannot change its shape; a size of 1 in the output never carries a width.
    return dims[len(dims) - walk.out.dim() :]


def prelu(walk: Walk, x: Axes, weight: Axes) -> Any:
    if weight.dims and weight.val.numel() > 1 and len(x.dims) > 1:
        walk.equate(weight.dims[0], x.dims[1])
    return x.dims
