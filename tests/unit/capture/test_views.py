"""Views, and what a tensor is after one of them was given another value."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx

from packify.capture.operators import operator_of
from packify.capture.outplace import Call
from packify.capture.views import same_place, storage_of, written_back
from packify.nn.members import Method
from packify.nn.writes import WriteThrough, setitem

VIEWS: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = {
    "index": ("__getitem__", ((slice(None), 1),), {}, setitem),
    "slice": ("__getitem__", (slice(1, 3),), {}, setitem),
    "select": (torch.select, (1, -1), {}, setitem),
    "select by name": ("select", (), {"dim": 0, "index": 2}, setitem),
    "narrow": (torch.narrow, (1, 1, 2), {}, setitem),
    "narrow to the end": ("narrow", (0, 2, 2), {}, setitem),
    "narrow from the back": ("narrow", (0, -2, 2), {}, setitem),
    "permute": ("permute", ((2, 0, 1),), {}, "permute"),
    "transpose": (torch.transpose, (0, -1), {}, "permute"),
    "movedim": (torch.movedim, (0, 2), {}, "permute"),
    "view": ("view", (4, 6), {}, "reshape_as"),
    "flatten": (torch.flatten, (1,), {}, "reshape_as"),
    "unsqueeze": ("unsqueeze", (1,), {}, "reshape_as"),
    "diagonal": (torch.diagonal, (), {"dim1": 0, "dim2": 1}, WriteThrough),
    "windows": ("unfold", (0, 2, 2), {}, WriteThrough),
}


def _recorded(function: Any, args: Any, kwargs: Any, base: Tensor) -> tuple[fx.Node, fx.Node]:
    graph = fx.Graph()
    source = graph.placeholder("x")
    source.meta["val"] = base.to("meta")
    if isinstance(function, str) and function != "__getitem__":
        node = graph.call_method(function, (source, *args), kwargs)
    else:
        node = graph.call_function(torch.Tensor.__getitem__ if function == "__getitem__" else function, (source, *args), kwargs)
    target = Method(function) if isinstance(function, str) else function
    node.meta.update(op=operator_of(target).name, val=_view(function, base, args, kwargs))
    return source, node


def _view(function: Any, base: Tensor, args: Any, kwargs: Any) -> Any:
    return getattr(base, function)(*args, **kwargs) if isinstance(function, str) else function(base, *args, **kwargs)


def _run(call: Call, env: dict[fx.Node, Tensor]) -> Tensor:
    args, kwargs = fx.node.map_arg((call.args, call.kwargs), env.__getitem__)
    return getattr(args[0], call.target)(*args[1:], **kwargs) if call.op == "call_method" else call.target(*args, **kwargs)


@pytest.mark.parametrize("name", VIEWS)
def test_a_tensor_has_what_was_written_to_its_view(name: str) -> None:
    function, args, kwargs, target = VIEWS[name]
    base = torch.arange(24.0).view(4, 3, 2)
    source, node = _recorded(function, args, kwargs, base)
    value = -1 - torch.rand_like(_view(function, base, args, kwargs))
    wanted = base.clone()
    _view(function, wanted, args, kwargs).copy_(value)
    given = node.graph.placeholder("value")
    given.meta["val"] = value
    call = written_back(node, source, None, None, source, given)
    assert call.target == target or isinstance(call.target, target if isinstance(target, type) else ())
    assert _run(call, {source: base, given: value}).equal(wanted)


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [(torch.chunk, (2,), {}), (torch.chunk, (2,), {"dim": 1}), (torch.split, (3, 1), {}), (torch.unbind, (1,), {}), (torch.unbind, (), {})],
)
def test_one_of_several_pieces_is_joined_with_the_others(function: Any, args: Any, kwargs: Any) -> None:
    base = torch.arange(24.0).view(4, 6)
    source, node = _recorded(function, args, kwargs, base)
    pieces = list(function(base, *args, **kwargs))
    nodes = [node.graph.placeholder(f"piece{index}") for index in range(len(pieces))]
    for own, piece in zip(nodes, pieces, strict=True):
        own.meta["val"] = piece
    wanted = base.clone()
    function(wanted, *args, **kwargs)[1].fill_(-1)
    pieces[1] = torch.full_like(pieces[1], -1)
    call = written_back(node, source, 1, nodes, source, nodes[1])
    assert call.target in (torch.cat, torch.stack)
    assert _run(call, dict(zip(nodes, pieces, strict=True))).equal(wanted)


def test_expanded_views_and_other_dtypes_are_written_through() -> None:
    base = torch.zeros(4, dtype=torch.complex64)
    source, node = _recorded(torch.real, (), {}, base)
    value = node.graph.placeholder("value")
    value.meta["val"] = torch.ones(4)
    call = written_back(node, source, None, None, source, value)
    assert isinstance(call.target, WriteThrough)
    assert _run(call, {source: base, value: torch.ones(4)}).tolist() == [1 + 0j] * 4


def test_tensors_in_one_memory_and_in_one_place() -> None:
    x = torch.zeros(4, 4)
    assert storage_of(x[1:].T) == storage_of(x)
    assert storage_of(x.clone()) != storage_of(x)
    assert same_place(x, x.detach())
    assert same_place(x, x.view(4, 4))
    for other in (x.T, x[:2], x[1:], x.view(16)):
        assert not same_place(x[:2] if other.shape == (3, 4) else x, other)
    z = torch.zeros(3, dtype=torch.complex64)
    assert not same_place(z, z.conj())
