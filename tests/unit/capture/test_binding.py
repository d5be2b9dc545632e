"""Calls in their one form: they run as they are, and every argument is known by its name."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from packify.capture.binding import arguments, bind, rewritten
from packify.capture.graphs import record_graphs
from packify.capture.operators import operator_of
from packify.ops.table import RULES
from tests.models import images, sequences

X = torch.randn(2, 3, 4, 4)
W = torch.randn(5, 3, 3, 3)

_CALLS: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], dict[str, Any]]] = [
    (Tensor.sum, (X,), {"axis": 1, "keepdims": True}, {"dim": 1, "keepdim": True}),
    (Tensor.sum, (X,), {}, {"dim": None, "keepdim": False}),
    (torch.max, (X,), {"dim": 1}, {"dim": 1, "other": None}),
    (torch.max, (X, X), {}, {"dim": None, "other": X}),
    (Tensor.std, (X,), {"dim": 1, "unbiased": False}, {"dim": 1}),
    (torch.std, (X,), {"dim": (1, 2), "correction": 0, "keepdim": True}, {"dim": (1, 2), "keepdim": True}),
    (Tensor.view, (X, 2, -1), {}, {"shape": (2, -1)}),
    (Tensor.view, (X, (2, -1)), {}, {"shape": (2, -1)}),
    (Tensor.view, (X, -1), {}, {"shape": (-1,)}),
    (Tensor.reshape, (X, -1), {}, {"shape": (-1,)}),
    (torch.reshape, (X,), {"shape": (2, -1)}, {"shape": (2, -1)}),
    (Tensor.permute, (X, 0, 2, 3, 1), {}, {"dims": (0, 2, 3, 1)}),
    (Tensor.expand, (X[:, :1],), {"size": (2, 3, 4, 4)}, {"shape": (2, 3, 4, 4)}),
    (Tensor.repeat, (X, 1, 1, 2, 1), {}, {"repeats": (1, 1, 2, 1)}),
    (Tensor.tile, (X, 2), {}, {"repeats": (2,)}),
    (Tensor.flip, (X, 0, 1), {}, {"dim": (0, 1)}),
    (torch.roll, (X,), {"shifts": 1, "dims": 1}, {"dim": 1}),
    (torch.zeros, (2, 3), {"requires_grad": True}, {"shape": (2, 3)}),
    (torch.full, (), {"size": (2, 3), "fill_value": 1.5}, {"shape": (2, 3), "fill_value": 1.5}),
    (torch.arange, (5,), {}, {"start": 0, "end": 5, "step": 1}),
    (torch.arange, (0, 10), {"step": 2}, {"start": 0, "end": 10, "step": 2}),
    (F.conv2d, (X,), {"weight": W, "padding": 1}, {"weight": W, "padding": 1, "groups": 1, "bias": None}),
    (F.conv2d, (X, W), {"padding": "same"}, {"padding": "same", "groups": 1}),
    (F.linear, (X,), {"weight": torch.ones(5, 4), "bias": torch.ones(5)}, {"groups": 1}),
    (F.interpolate, (X,), {"scale_factor": 2, "mode": "bilinear"}, {"size": None, "scale_factor": 2, "mode": "bilinear"}),
    (F.softmax, (X, 1), {"_stacklevel": 5}, {"dim": 1, "dtype": None}),
    (F.max_pool2d, (X, 2), {}, {"kernel_size": 2}),
    (F.adaptive_max_pool2d, (X, 2), {"return_indices": True}, {"output_size": 2}),
    (torch.split, (X, [1, 2]), {"dim": 1}, {"pieces": [1, 2], "dim": 1}),
    (Tensor.split, (X, 2), {}, {"pieces": 2, "dim": 0}),
    (Tensor.chunk, (X,), {"chunks": 2, "dim": 1}, {"pieces": 2, "dim": 1}),
    (torch.tensor_split, (X,), {"indices": (1,), "dim": 1}, {"pieces": (1,), "dim": 1}),
    (Tensor.swapaxes, (X,), {"axis0": 1, "axis1": 2}, {"dim0": 1, "dim1": 2}),
    (torch.moveaxis, (X, 0, 1), {}, {"source": 0, "destination": 1}),
    (torch.cat, (), {"tensors": [X, X], "dim": 1}, {"dim": 1}),
    (torch.einsum, ("bchw->b", X), {}, {"equation": "bchw->b", "operands": (X,)}),
    (torch.einsum, ("bchw->b", [X]), {}, {"equation": "bchw->b"}),
    (torch.meshgrid, ([X[0, 0, 0], X[0, 0, 0]],), {"indexing": "xy"}, {"indexing": "xy"}),
    (torch.batch_norm, (X, None, None, torch.zeros(3), torch.ones(3), False, 0.1, 1e-5, False), {}, {"weight": None, "training": False}),
    (torch.embedding, (torch.randn(4, 2), torch.tensor([1, 2])), {}, {"scale_grad_by_freq": False}),
    (F.dropout, (X,), {"training": False}, {"training": False, "p": 0.5}),
    (torch.dropout, (X, 0.5, False), {}, {"training": False, "p": 0.5}),
    (Tensor.to, (X,), {"dtype": torch.float64, "non_blocking": True}, {}),
    (Tensor.__getitem__, (X, 0), {}, {"index": 0}),
    (operator.getitem, (X, 0), {}, {"index": 0}),
    (
        F.scaled_dot_product_attention,
        (X, X),
        {"value": X, "is_causal": True, "scale": 2.0},
        {"is_causal": True, "attn_mask": None, "scale": 2.0},
    ),
]


@pytest.mark.parametrize(("function", "args", "kwargs", "expected"), _CALLS, ids=[call[0].__name__ for call in _CALLS])
def test_a_bound_call_runs_as_it_is_and_has_names(function: Any, args: Any, kwargs: Any, expected: dict[str, Any]) -> None:
    bound_args, bound_kwargs, signature = bind(function, args, kwargs)
    torch.testing.assert_close(function(*bound_args, **bound_kwargs), function(*args, **kwargs))
    node = torch.fx.Graph().call_function(function)
    node.meta["signature"] = signature
    found = arguments(node, RULES[operator_of(function).name].signature, (bound_args, bound_kwargs))
    for name, value in expected.items():
        assert found[name] is value or found[name] == value


@pytest.mark.parametrize(("build", "x"), [(images.UNet, torch.randn(2, 3, 8, 8)), (sequences.Vit, torch.randn(2, 3, 8, 8))])
def test_every_call_of_a_network_has_names_for_all_its_arguments(build: Any, x: Tensor) -> None:
    for node in record_graphs(build(), x).graphs["eval"].nodes:
        if not node.op.startswith("call"):
            continue
        rule = RULES.get(node.meta["op"])
        found = arguments(node, rule.signature if rule else None)
        assert "args" not in found or node.meta["op"] == "to"
        assert set(map(id, node.all_input_nodes)) >= {id(value) for value in found.values() if isinstance(value, torch.fx.Node)}


def test_changes_are_written_where_they_belong() -> None:
    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    node = graph.call_method("sum", (x, 1))
    node.meta["signature"] = bind(Tensor.sum, (X, 1), {})[2]
    row = RULES["sum"].signature
    assert rewritten(node, {"dim": 2}, row) == ((x, 2), {})
    assert rewritten(node, {"keepdim": True}, row) == ((x, 1, True), {})
    assert rewritten(node, {}, row) == ((x, 1), {})
    with pytest.raises(TypeError, match="no argument 'groups'"):
        rewritten(node, {"groups": 3}, row)
