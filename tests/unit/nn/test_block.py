"""Blocks: modules that run small graphs as Python code."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from packify.nn.block import (
    Block,
    Form,
    OwnCode,
    base_of,
    block_class,
    functions_from,
    hidden_names,
    is_block_class,
    remove_blocks,
    shown,
    source_of,
    whole_forms,
)
from packify.nn.code import written


def _run(root: nn.Module, form: Form, *inputs: Any) -> Any:
    source, names = source_of((form,), hidden_names(type(root)))
    return functions_from(source, names, "test")["forward"](root, *inputs)


def test_parts_named_like_keywords_are_reached() -> None:
    root = nn.ModuleDict({"class": nn.ModuleDict({"in": nn.Linear(2, 2)})})
    graph = fx.Graph()
    graph.output(graph.call_module("class.in", (graph.placeholder("x"),)))
    assert "getattr(getattr(self, 'class'), 'in')" in written(graph).src
    x = torch.randn(3, 2)
    assert torch.equal(_run(root, Form(graph, graph), x), root["class"]["in"](x))


def test_modes_with_one_graph_have_one_body() -> None:
    graph, other = fx.Graph(), fx.Graph()
    graph.output(graph.placeholder("x"))
    other.output(other.call_function(torch.neg, (other.placeholder("x"),)))
    root, x = nn.Identity(), torch.randn(3)
    assert "training" not in source_of((Form(graph, graph),), hidden_names(nn.Identity))[0]
    assert torch.equal(_run(root.eval(), Form(graph, other), x), x)
    assert torch.equal(_run(root.train(), Form(graph, other), x), -x)


def _graph(*calls: Callable[..., Any]) -> fx.Graph:
    """The calls one after another."""
    graph = fx.Graph()
    value = graph.placeholder("x")
    for call in calls:
        value = graph.call_function(call, (value,))
    graph.output(value)
    return graph


def _block(*calls: Callable[..., Any], base: type[nn.Module] = nn.Identity) -> nn.Module:
    graph = _graph(*calls)
    block = base()
    block.__class__ = block_class(type(block), (Form(graph, graph),))
    return block


def test_a_block_runs_its_graph_and_is_what_it_was() -> None:
    block = _block(torch.neg, torch.exp)
    assert isinstance(block, Block)
    assert isinstance(block, nn.Identity)
    assert is_block_class(type(block))
    assert base_of(block) is nn.Identity
    assert block(torch.zeros(2)).tolist() == [1.0, 1.0]
    assert block.code == "def forward(self, x):\n    neg = torch.neg(x)\n    return torch.exp(neg)"


def test_equal_code_has_one_class_and_other_code_another() -> None:
    assert type(_block(torch.neg)) is type(_block(torch.neg))
    assert type(_block(torch.neg)) is not type(_block(torch.exp))
    assert type(_block(torch.neg)) is not type(_block(torch.neg, base=nn.ReLU))

    def own(x: Tensor) -> Tensor:
        return x

    def other(x: Tensor) -> Tensor:
        return -x

    other.__name__ = "own"  # the same text, of another function
    one, two = _block(own), _block(other)
    assert type(one) is not type(two)
    assert (one(torch.ones(1)).item(), two(torch.ones(1)).item()) == (1, -1)


def test_copies_and_pickles_are_blocks() -> None:
    block = _block(torch.neg)
    for again in (copy.deepcopy(block), pickle.loads(pickle.dumps(block))):
        assert type(again) is type(block)
        assert again(torch.ones(1)).item() == -1


def test_several_forms_are_told_apart_by_the_call() -> None:
    forms = tuple(Form(graph, graph) for graph in (_graph(torch.neg), _graph(torch.exp)))
    block = nn.Identity()
    block.__class__ = block_class(nn.Identity, forms)
    zero = torch.zeros(1)
    assert (block(zero).item(), block(zero, form=1).item(), block(zero, form=0).item()) == (0, 1, 0)


def test_modules_are_what_they_were_without_blocks() -> None:
    tree = nn.Sequential(_block(torch.neg), nn.Linear(1, 1))
    wrapped = OwnCode(tree[0])
    assert wrapped(torch.ones(1)).item() == 1  # the code of nn.Identity
    remove_blocks(tree)
    assert [type(module) for module in tree] == [nn.Identity, nn.Linear]


def test_code_is_shown_without_what_it_lets_go_of() -> None:
    source, _ = source_of((Form(_graph(torch.neg, torch.exp), _graph(torch.neg)),), hidden_names(nn.Identity))
    assert "del" in source
    assert "del" not in shown(source)
    assert "if self.training:" in source


def test_the_graphs_of_a_network_by_the_kind_of_its_inputs() -> None:
    graphs = {name: _graph(torch.neg) for name in ("eval", "train", "independent_eval", "independent")}
    forms = whole_forms(graphs)
    assert (forms["shared"].training, forms["independent"].evaluation) == (graphs["train"], graphs["independent_eval"])
    assert whole_forms({"eval": graphs["eval"], "train": graphs["train"]}).keys() == {"shared"}


def test_tracebacks_show_the_lines_of_a_block() -> None:
    def fails(x: Tensor) -> Tensor:
        raise ZeroDivisionError

    import traceback

    with pytest.raises(ZeroDivisionError) as caught:
        _block(fails)(torch.ones(1))
    assert "return fails(x)" in "".join(traceback.format_tb(caught.tb))
