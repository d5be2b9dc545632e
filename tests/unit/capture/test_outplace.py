"""Operators in place, and calls out of place that compute the same and change nothing."""

from __future__ import annotations

import operator
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from packify.capture.operators import operator_of
from packify.capture.outplace import Call, OutOfPlaceForm, forms_of, in_place_position
from packify.nn.members import Method

X = torch.tensor([[0.5, -1.0], [2.0, 3.0]])
CALLS: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any]]] = {
    "add_": ("add_", (X, 2.0), {}),
    "add_ of a tensor": ("add_", (X, X + 1), {"alpha": 2}),
    "+=": (operator.iadd, (X, 3.0), {}),
    "__imul__": ("__imul__", (X, 3.0), {}),
    "relu_": (torch.relu_, (X,), {}),
    "relu in place": (F.relu, (X,), {"inplace": True}),
    "hardtanh_": (F.hardtanh_, (X, -0.5, 0.5), {}),
    "copy_": ("copy_", (X, torch.tensor([7.0, 8.0])), {}),
    "fill_": ("fill_", (X, 2.5), {}),
    "fill_ with a tensor": ("fill_", (X, torch.tensor(2.5)), {}),
    "zero_": ("zero_", (X,), {}),
    "masked_fill_": ("masked_fill_", (X, X > 0, 0.0), {}),
    "fill_diagonal_": ("fill_diagonal_", (X, 9.0), {}),  # exists in place only
    "clamp_": ("clamp_", (X,), {"min": 0.0}),
    "an overload": (torch.ops.aten.mul_.Tensor, (X, X), {}),
    "t_": ("t_", (X,), {}),
}


def _recorded(function: Any, args: Any, kwargs: Any) -> tuple[Call, str]:
    """The call with nodes in place of tensors."""
    graph = fx.Graph()

    def node(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        made = graph.placeholder("x")
        made.meta["val"] = leaf.to("meta")
        return made

    target = Method(function) if isinstance(function, str) else function
    kind = "call_method" if isinstance(function, str) else "call_function"
    return Call(kind, function, tuple(map(node, args)), dict(kwargs)), operator_of(target).name


def _run(call: Call) -> Any:
    function = getattr(Tensor, call.target) if call.op == "call_method" else call.target
    return function(*call.args, **call.kwargs)


@pytest.mark.parametrize("name", CALLS)
def test_every_form_computes_what_the_call_in_place_does(name: str) -> None:
    function, args, kwargs = CALLS[name]
    inside = tuple(item.clone() if isinstance(item, Tensor) else item for item in args)
    wanted = _run(Call("call_method" if isinstance(function, str) else "call_function", function, inside, kwargs))
    call, op = _recorded(function, args, kwargs)
    forms = list(forms_of(call, op, 0))
    assert forms
    for form in forms:
        before = X.clone()
        torch.testing.assert_close(_run(form.call(args, kwargs)), wanted)
        assert X.equal(before)


@pytest.mark.parametrize("name", ["normal_", "bernoulli_", "uniform_"])
def test_what_is_drawn_has_no_twin_of_another_meaning(name: str) -> None:
    call, op = _recorded(name, (X,), {})
    (form,) = forms_of(call, op, 0)
    torch.manual_seed(0)
    wanted = getattr(X.clone(), name)()
    torch.manual_seed(0)
    assert _run(form.call((X,), {})).equal(wanted)


def test_calls_know_their_operators() -> None:
    assert Call.of("mul", (1,)).target is operator.mul
    assert Call.of("cat", ()).target is torch.cat
    assert (Call("call_method", "add_").name, Call("call_function", torch.relu_).name) == ("add", "relu")
    form = OutOfPlaceForm("call_function", torch.fill, 2)
    assert form.call((1, 2, 3), {"a": 4}) == Call("call_function", torch.fill, (1, 2), {})


def test_which_argument_is_written_to() -> None:
    root, graph = nn.ModuleDict({"drop": nn.Dropout(inplace=True), "plain": nn.Dropout()}), fx.Graph()
    x = graph.placeholder("x")
    node = graph.call_function(torch.relu_, (x,))
    assert in_place_position(node, root) is None  # recorded as one that changes nothing
    node.meta["inplace"] = True
    assert in_place_position(node, root) == 0
    assert in_place_position(graph.call_module("drop", (x,)), root) == 0
    assert in_place_position(graph.call_module("plain", (x,)), root) is None
    numbers = graph.call_function(torch.relu_, (3,))
    numbers.meta["inplace"] = True
    assert in_place_position(numbers, root) is None
