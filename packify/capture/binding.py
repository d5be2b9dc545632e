"""Arguments bound once: every call in a graph has its arguments in one form, and by the names of one signature.

``x.sum(axis=1)`` is recorded as ``x.sum(1)``, ``torch.zeros(2, 3)`` as ``torch.zeros((2, 3))``: positional up to the last one that was
given, gaps filled by defaults, keyword-only ones by name. `arguments` then gives them all: ``{"input": x, "dim": 1, "keepdim": False}``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import fx

from packify.capture.opaque import OpaqueAutogradFunction, OpaqueScriptFunction
from packify.capture.operators import operator_of
from packify.capture.signatures import GETTER, OPEN, REQUIRED, Parameter, Signature, correspondence, of_schema, python_signature

Bound = tuple[tuple[Any, ...], dict[str, Any]]


def bind(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any], Signature]:
    """A call in its one form, and the signature that it has; a call that no known signature fits stays as it is, with `OPEN`."""
    name = getattr(function, "__name__", "")
    if name in ("__get__", "__set__"):
        return args, dict(kwargs), GETTER
    for strict, gathered in ((True, False), (True, True), (False, False), (False, True)):
        for signature in signatures_of(function):
            found = signature.fitted(signature.gathered(args) if gathered else args, kwargs, strict)
            if found is not None:
                return *signature.written(found), signature
    return args, dict(kwargs), OPEN


def inplace_by_name(signature: Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same call with a last argument ``inplace`` given by name: ``F.relu(x, inplace=True)``, not ``F.relu(x, True)``."""
    if args and list(signature.names)[len(args) - 1 : len(args)] == ["inplace"]:
        return args[:-1], {**kwargs, "inplace": args[-1]}
    return args, kwargs


@functools.cache
def signatures_of(function: Callable[..., Any]) -> tuple[Signature, ...]:
    """The signatures that a function has: that of Python, or one for each overload of torch's."""
    if isinstance(function, OpaqueScriptFunction):
        return (of_schema(function.function.schema),)
    if isinstance(function, OpaqueAutogradFunction):
        kind = function.function
        own = python_signature(kind.forward)
        first = int(kind.setup_context is torch.autograd.Function.setup_context)  # forward(ctx, ...)
        return () if own is None else (Signature(own.parameters[first:]),)
    if isinstance(function, torch._ops.OpOverload):
        return (of_schema(function._schema),)
    if isinstance(function, torch._ops.OpOverloadPacket):
        return tuple(of_schema(getattr(function, overload)._schema) for overload in function.overloads())
    own = python_signature(function)
    if own is not None:
        return (own,)
    raw = getattr(function, "__name__", "")
    names = dict.fromkeys((raw, raw.strip("_"), operator_of(function).name))
    return tuple(of_schema(schema) for name in names if name for schema in torch._C._jit_get_schemas_for_operator(f"aten::{name}"))


def signature_of(node: fx.Node) -> Signature:
    """The signature of a node's own call: as it was recorded, or, of one that a pass has made, that of its target."""
    known = node.meta.get("signature")
    if isinstance(known, Signature):
        return known
    target: Any = node.target
    if node.op == "call_method":
        target = getattr(torch.Tensor, target, None)
    if node.op not in ("call_function", "call_method") or target is None:
        return OPEN
    if target is getattr:
        return GETTER
    args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), lambda source: source.meta.get("val"))
    return bind(target, args, kwargs)[2]


def arguments(node: fx.Node, signature: Signature | None = None, values: Bound | None = None) -> dict[str, Any]:
    """Every argument of a call by its name in `signature` (default: its own), defaults filled in.

    Args:
        node: a call.
        signature: that of the operator's row, which all ways to call the operator share.
        values: what stands for the node's ``args`` and ``kwargs``, e.g. their values; by default the graph's nodes themselves.

    Raises:
        TypeError: the call does not fit its signature.
    """
    args, kwargs = (node.args, node.kwargs) if values is None else values
    own = signature_of(node)
    if signature is None:
        return own.read(args, kwargs)
    if own.open:
        return signature.read(args, kwargs)
    read = own.read(args, kwargs)
    found = signature.defaults() | {row: read[name] for name, row in correspondence(own, signature).items() if name in read}
    return {name: found[name] for name in signature.names if name in found}


def rewritten(node: fx.Node, changes: Mapping[str, Any], signature: Signature | None = None, values: Bound | None = None) -> Bound:
    """``args`` and ``kwargs`` of a call with some arguments changed, in the one form; everything else stays as it was given.

    Raises:
        TypeError: the call has no argument of such a name.
    """
    args, kwargs = (node.args, node.kwargs) if values is None else values
    if not changes:
        return tuple(args), dict(kwargs)
    own = signature_of(node)
    if own.open and signature is not None:
        own, names = signature, {}
    else:
        names = {} if signature is None else {row: name for name, row in correspondence(own, signature).items()}
    given = own.given(args, kwargs)
    for name, value in changes.items():
        known = names.get(name, name)
        given[known if signature is not None and name in signature.names else own.name_of(known)] = value
    return own.written(given)


def call_rule(
    rule: Callable[..., Any], leading: Iterable[Any], node: fx.Node, signature: Signature | None = None, values: Bound | None = None
) -> Any:
    """Call a rule on the arguments of a node: by name where the rule's parameters have these names, else by position in their order.

    A rule may leave out what it does not read: by name any argument, by position trailing ones that have their defaults.

    Raises:
        TypeError: it leaves out an argument that the call gives.
    """
    leading = tuple(leading)
    found = arguments(node, signature, values)
    own, free, keywords = _parameters(rule, len(leading))
    required = [name for name, default in own.items() if default is REQUIRED]
    if not free and all(name in found for name in required) and (not own or any(name in found for name in own)):
        return rule(*leading, **{name: value for name, value in found.items() if keywords or name in own})
    signature = signature or signature_of(node)
    positional, named = signature.positional(found)
    if not free and len(positional) > len(own):
        left_out = dict(list(found.items())[len(own) : len(positional)])
        positional = positional[: len(own)]
        if keywords:
            named |= left_out
        else:
            _require_defaults(left_out, signature)
    if not keywords:
        _require_defaults({name: value for name, value in named.items() if name not in own}, signature)
        named = {name: value for name, value in named.items() if name in own}
    return rule(*leading, *positional, **named)


def _require_defaults(left_out: Mapping[str, Any], signature: Signature) -> None:
    defaults = signature.defaults()
    for name, value in left_out.items():
        default = defaults.get(name, REQUIRED)
        if value is not default and not (type(value) is type(default) and value == default):
            raise TypeError(f"the call gives {name}={value!r:.80}, and the rule takes no such argument")


@functools.cache
def _parameters(rule: Callable[..., Any], leading: int) -> tuple[dict[str, Any], bool, bool]:
    """The parameters of a rule after the leading ones, with their defaults; and whether it takes any others by position, and by name."""
    given = list(inspect.signature(rule).parameters.values())
    kinds = {parameter.kind for parameter in given}
    named = [parameter for parameter in given if not Parameter("", kind=parameter.kind).variadic][leading:]
    own = {parameter.name: parameter.default for parameter in named}
    return own, inspect.Parameter.VAR_POSITIONAL in kinds, inspect.Parameter.VAR_KEYWORD in kinds
