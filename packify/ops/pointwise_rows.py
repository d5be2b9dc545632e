"""Rows of operators that treat every element alike."""

from __future__ import annotations

from collections.abc import Iterator

from packify.ops import mult_adds, pointwise
from packify.ops.rule import Rule

_NAMES = """
add sub rsub mul div rdiv pow rpow mod floordiv rfloordiv neg pos abs exp exp2 expm1 log log2 log10 log1p sqrt rsqrt square
reciprocal sign sgn sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh atan2 erf erfc erfinv sigmoid logsigmoid logit
softplus softsign relu relu6 elu selu celu gelu silu mish hardtanh hardsigmoid hardswish leaky_relu hardshrink softshrink
tanhshrink threshold clamp clamp_min clamp_max floor ceil round trunc frac eq ne lt le gt ge and or xor invert not logical_and
logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not bitwise_xor maximum minimum fmax fmin isnan isinf isfinite
nan_to_num where masked_fill lerp addcmul addcdiv heaviside hypot copysign xlogy sinc deg2rad rad2deg float double half bfloat16
int long bool byte short cpu cuda contiguous clone detach alias data fill zero copy real imag conj angle lgamma digamma positive
bernoulli uniform normal exponential log_normal
cauchy geometric random rand_like randn_like zeros_like ones_like full_like empty_like randint_like requires_grad relu_ identity
polar complex ldexp gumbel_softmax trunc_normal arccos arccosh arcsin arcsinh arctan arctan2 arctanh lshift rshift rlshift rrshift
bitwise_left_shift bitwise_right_shift radd rmul rmod ror rxor cdouble cfloat chalf float_power fix i0 igamma igammac isclose
isneginf isposinf isreal greater greater_equal less less_equal not_equal logaddexp logaddexp2 gcd lcm nextafter mvlgamma polygamma
signbit resolve_conj resolve_neg pin_memory binomial poisson detach_copy log_sigmoid _threshold special_entr
special_erf special_erfc special_erfinv special_erfcx special_exp2 special_expm1 special_gammaln special_i0 special_i0e special_i1
special_i1e special_log1p special_log_ndtr special_logit special_ndtr special_ndtri special_psi special_round special_sinc
special_xlog1py special_xlogy special_zeta
""".split()
_DROPOUTS = "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout"
_DROPOUT_MODULES = "Dropout Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout"
# Between a residual stream and a layer these change nothing about who reads the stream; a norm does.
_TRANSPARENT = frozenset(
    "relu relu6 gelu silu hardswish hardsigmoid sigmoid tanh leaky_relu elu selu celu mish softplus hardtanh contiguous clone "
    "Dropout Dropout1d Dropout2d Dropout3d dropout identity".split()
)
# What ends in one of these is a probability, a bounded value or a feature, not logits.
_NOT_LOGITS = frozenset(
    "sigmoid hardsigmoid tanh hardtanh softsign relu relu6 leaky_relu rrelu elu selu celu gelu silu mish hardswish softplus "
    "threshold exp expm1 pow square sqrt abs sin cos".split()
)
_HANDS_ON = frozenset("contiguous float clone Dropout dropout identity".split())


def _traits(name: str) -> set[str]:
    sets = {"transparent": _TRANSPARENT, "not_logits": _NOT_LOGITS, "hands_on": _HANDS_ON}
    return {"pointwise"} | {trait for trait, names in sets.items() if name in names}


def _rows() -> Iterator[tuple[str, Rule]]:
    for name in _NAMES:
        yield name, Rule("pointwise", traits=_traits(name))
    for name in _DROPOUTS.split():
        yield name, Rule("pointwise", signature="input, p=0.5, training=True, inplace=False", traits=_traits(name))
    for name in _DROPOUT_MODULES.split():
        yield name, Rule("pointwise", signature="input", traits=_traits(name))
    yield "rrelu", Rule("pointwise", signature="input, lower=0.125, upper=0.3333333333333333, training=False", traits=_traits("rrelu"))
    cast = Rule("pointwise", pointwise.cast, pointwise.pack_cast, signature="input, *args, **kwargs")
    for name, traits in (("to", "transparent hands_on"), ("type", ""), ("type_as", "")):
        yield name, Rule(cast.family, cast.widths, cast.pack, signature=cast.signature, traits=traits)
    yield "prelu", Rule("pointwise", pointwise.prelu, pointwise.pack_prelu, signature="input, weight", traits="transparent not_logits")
    yield "PReLU", Rule("pointwise", mult_adds=mult_adds.nothing)


POINTWISE = tuple(_rows())
