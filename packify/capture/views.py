"""Views of tensors, and the inverse of each: what a tensor is after one of its views was given another value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from packify.capture.outplace import Call
from packify.nn.members import Method
from packify.nn.writes import WriteThrough, setitem

# The same numbers without their history.
HISTORY = frozenset(("detach", "data"))
_ORDERS = frozenset("permute transpose t T mT H mH adjoint movedim".split())
_SHAPES = frozenset(
    "reshape reshape_as flatten ravel squeeze unsqueeze unflatten expand expand_as broadcast_to atleast_1d atleast_2d atleast_3d".split()
)
_JOINED = {"chunk": "cat", "split": "cat", "tensor_split": "cat", "unbind": "stack"}


def storage_of(tensor: torch.Tensor) -> int:
    """The same number for tensors in one memory."""
    return int(tensor.untyped_storage()._cdata)


def same_place(one: torch.Tensor, two: torch.Tensor) -> bool:
    """Every element of the one is that of the other, in order."""
    return (
        (one.shape, one.stride(), one.storage_offset(), one.dtype) == (two.shape, two.stride(), two.storage_offset(), two.dtype)
        and one.is_conj() == two.is_conj()
        and one.is_neg() == two.is_neg()
    )


def written_back(call: fx.Node, made_of: fx.Node, element: int | None, pieces: list[fx.Node] | None, base: fx.Node, value: fx.Node) -> Call:
    """What a tensor is after a view of it has got another value.

    Args:
        call: made the view, or several, of `made_of`.
        element: which of several.
        pieces: all of them, as they are now.
        base: the tensor before.
        value: of the view now.
    """
    op, before = call.meta["op"], base.meta["val"]
    rest = (*call.args[1:], *call.kwargs.values())
    plain = call.args[:1] == (made_of,) and call.meta["val"] is not None and not any(item is made_of for item in rest)
    if not plain or before.dtype != value.meta["val"].dtype or before.is_complex():
        return _through(call, made_of, element, base, value)
    if pieces is not None:
        if op not in _JOINED:
            return _through(call, made_of, element, base, value)
        position = 1 if op == "unbind" else 2
        dim = call.kwargs.get("dim", call.args[position] if len(call.args) > position else 0)
        return Call("call_function", getattr(torch, _JOINED[op]), (pieces, dim))
    if op == "getitem":
        return Call("call_function", setitem, (base, call.args[1], value))
    if op in ("select", "narrow") and all(isinstance(item, int) for item in rest):
        return Call("call_function", setitem, (base, _index(op, call, before.dim()), value))
    if op in _ORDERS:
        order = _order(call, before)
        return Call("call_method", "permute", (value, tuple(order.index(axis) for axis in range(len(order)))))
    if op in _SHAPES and before.numel() == value.meta["val"].numel():
        return Call("call_method", "reshape_as", (value, base))
    return _through(call, made_of, element, base, value)


def _index(op: str, call: fx.Node, ndim: int) -> tuple[Any, ...]:
    given: Any = dict(zip(("dim", "index") if op == "select" else ("dim", "start", "length"), call.args[1:], strict=False)) | call.kwargs
    ahead = (slice(None),) * (given["dim"] % ndim)
    if op == "select":
        return (*ahead, given["index"])
    return (*ahead, slice(given["start"], given["start"] + given["length"] or None))


def _order(call: fx.Node, before: torch.Tensor) -> list[int]:
    """Which axis of the tensor each axis of the view is: seen on one whose axes are all of different lengths."""
    distinct = before.new_empty([axis + 2 for axis in range(before.dim())])
    args, kwargs = fx.node.map_arg((call.args[1:], call.kwargs), lambda source: source.meta["val"])
    return [size - 2 for size in _function(call)(distinct, *args, **kwargs).shape]


def _through(call: fx.Node, made_of: fx.Node, element: int | None, base: fx.Node, value: fx.Node) -> Call:
    position = call.args.index(made_of)
    others = (*call.args[:position], *call.args[position + 1 :])
    return Call("call_function", WriteThrough(_function(call), position, element), (base, value, *others), dict(call.kwargs))


def _function(call: fx.Node) -> Callable[..., Any]:
    return Method(str(call.target)) if call.op == "call_method" else call.target  # type: ignore[return-value]
