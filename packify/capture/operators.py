"""One name per operator, whatever way it was called: ``x + y``, ``x.add(y)``, ``x.add_(y)`` and ``torch.add(x, y)`` are all ``add``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from packify.capture.opaque import OpaqueAutogradFunction, OpaqueScriptFunction

# Spellings of one operator. Everything not named here goes by its own name without a trailing underscore.
ALIASES = {
    "view": "reshape",
    "_unsafe_view": "reshape",
    "view_as": "reshape_as",
    "truediv": "div",
    "true_divide": "div",
    "divide": "div",
    "rtruediv": "rdiv",
    "subtract": "sub",
    "multiply": "mul",
    "negative": "neg",
    "absolute": "abs",
    "remainder": "mod",
    "fmod": "mod",
    "floor_divide": "floordiv",
    "clip": "clamp",
    "swapaxes": "transpose",
    "swapdims": "transpose",
    "moveaxis": "movedim",
    "concat": "cat",
    "concatenate": "cat",
    "special_expit": "sigmoid",
    "expit": "sigmoid",
    "special_softmax": "softmax",
    "special_log_softmax": "log_softmax",
    "_softmax": "softmax",
    "native_batch_norm": "batch_norm",
    "_scaled_dot_product_attention": "scaled_dot_product_attention",
    "_pad": "pad",
    "upsample": "interpolate",
    "unsafe_chunk": "chunk",
    "unsafe_split": "split",
    "split_with_sizes": "split",
    "index": "getitem",
}

# Reading these says something about a tensor and records nothing: the answer is an ordinary Python value.
# What they say of a tensor depends on the device, and while a network is recorded its tensors are on none.
DEVICE_GETTERS = frozenset("device get_device is_cuda is_cpu is_meta is_mps is_xpu is_xla is_vulkan is_ipu is_mtia is_maia".split())
PASSIVE_GETTERS = DEVICE_GETTERS | frozenset(
    "dtype layout requires_grad is_leaf is_sparse is_quantized is_nested is_mkldnn grad grad_fn ndim names _backward_hooks itemsize "
    "nbytes volatile output_nr _version name retains_grad".split()
)
PASSIVE = frozenset(
    "dim ndimension is_floating_point is_complex is_contiguous stride element_size get_device is_tensor is_grad_enabled _set_grad_enabled "
    "is_autocast_enabled has_names is_same_size data_ptr storage_offset is_storage __hash__ __repr__ __format__ __deepcopy__ __reduce_ex__ "
    "_is_view is_inference is_signed __len__ storage untyped_storage _assert register_hook retain_grad requires_grad_ get_default_dtype "
    "is_pinned result_type can_cast promote_types get_autocast_dtype is_conj is_neg set_default_dtype broadcast_shapes".split()
)
# These need a tensor's values.
READS_DATA = frozenset("item tolist __bool__ __int__ __float__ __index__ __complex__ __array__ is_nonzero numpy equal allclose".split())
# Their results are drawn anew in every call, so they are recorded even when nothing they read is. A recording needs to know before any
# table is at hand; the rows of these operators have the trait "random" from here.
RANDOM = frozenset(
    "rand randn randint randperm rand_like randn_like randint_like bernoulli normal multinomial poisson uniform exponential log_normal "
    "cauchy geometric random dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout native_dropout "
    "rrelu gumbel_softmax trunc_normal Dropout Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout".split()
)


@dataclass(frozen=True)
class Operator:
    """How a call is recorded.

    Attributes:
        name: the canonical name, e.g. ``"add"``, or ``"namespace::name"`` for an operator that is not torch's.
        inplace: it changes its first argument.
        getter: it reads an attribute of a tensor (``x.T``).
    """

    name: str
    inplace: bool = False
    getter: bool = False


def operator_of(function: Callable[..., Any]) -> Operator:
    """The operator that a function, a tensor method, a Python operator or a property getter stands for."""
    name = getattr(function, "__name__", type(function).__name__)
    if name in ("__get__", "__set__"):
        return Operator(function.__self__.__name__, inplace=name == "__set__", getter=True)  # type: ignore[attr-defined]
    if name in PASSIVE:
        return Operator(name)
    if isinstance(function, (OpaqueScriptFunction, OpaqueAutogradFunction)):
        return Operator(f"{function.namespace}::{name}")
    if isinstance(function, torch._ops.OpOverloadPacket):
        function = getattr(function, function.overloads()[0])
    if isinstance(function, torch._ops.OpOverload):
        if function.namespace not in _TORCHS_OWN:
            return Operator(f"{function.namespace}::{function._opname}", inplace=function._schema.is_mutable)
        name = function._opname
    if name in READS_DATA:
        return Operator(name)
    dunder = name.startswith("__") and name.endswith("__")
    inplace = name.endswith("_") and not dunder
    name = name.strip("_")
    if dunder and name[0] == "i" and name[1:] in _INPLACE_OPERATORS:
        name, inplace = name[1:], True
    if name == "setitem":
        inplace = True
    return Operator(ALIASES.get(name, name), inplace)


_TORCHS_OWN = frozenset(("aten", "prim", "prims", "torchvision"))
_INPLACE_OPERATORS = frozenset("add sub mul truediv floordiv mod pow and or xor matmul lshift rshift".split())


def rule_of(rules: Mapping[Any, Any], node: fx.Node) -> Any:
    """The rule for a node: by the function itself first (a user's), then by the operator's name, then the one for any other operator."""
    key = key_of(rules, node.target if node.op == "call_function" else None, node.meta["op"])
    return rules.get("*") if key is None and node.op in ("call_function", "call_method") else rules.get(key)


def key_of(keys: Collection[Any], function: Any, name: str) -> Any:
    """Which of `keys` means an operator: its function, its name, or its name behind any namespace; None if none does."""
    if function is not None and function in keys:
        return function
    return next((key for key in (name, "::" + name.rpartition("::")[2]) if key in keys), None)


def traits_of(rules: Mapping[Any, Any], node: fx.Node) -> frozenset[str]:
    """The traits of a node's operator."""
    rule = rule_of(rules, node) if "op" in node.meta else None
    return frozenset() if rule is None else frozenset(rule.traits or ())
