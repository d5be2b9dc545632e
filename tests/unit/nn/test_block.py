"""Blocks: modules that run small graphs."""

from __future__ import annotations

import copy
import pickle

import torch
from torch import fx, nn

from packify.nn.block import FORMS, Block, Form, base_of, block_class, code_key, is_block_class, remove_blocks, whole_forms


def _form(function: object = torch.neg) -> Form:
    graph = fx.Graph()
    graph.output(graph.call_function(function, (graph.call_module("0", (graph.placeholder("x"),)),)))
    return Form(graph, graph)


def _block(*forms: Form) -> nn.Sequential:
    block = nn.Sequential(nn.Linear(2, 2))
    block.__class__ = block_class(nn.Sequential, forms)
    return block


def test_equal_code_has_one_class() -> None:
    assert block_class(nn.Sequential, (_form(),)) is block_class(nn.Sequential, (_form(),))
    assert block_class(nn.Sequential, (_form(),)) is not block_class(nn.Sequential, (_form(torch.exp),))
    assert code_key(_form().evaluation, nn.Sequential) == code_key(_form().evaluation, nn.Sequential)
    assert code_key(_form().evaluation, nn.Sequential) != code_key(_form(torch.exp).evaluation, nn.Sequential)


def test_a_block_runs_its_code_and_is_what_it_was() -> None:
    block, x = _block(_form()), torch.randn(3, 2)
    assert isinstance(block, (Block, nn.Sequential))
    assert torch.equal(block(x), -block[0](x))
    assert "return torch.neg(" in block.code
    assert (base_of(block), is_block_class(type(block)), type(block).__name__) == (nn.Sequential, True, "Sequential")
    for again in (copy.deepcopy(block), pickle.loads(pickle.dumps(block))):
        assert type(again) is type(block)
        assert torch.equal(again(x), block(x))
    remove_blocks(block)
    assert type(block) is nn.Sequential


def test_the_call_says_which_of_several_forms_runs() -> None:
    block, x = _block(_form(), _form(torch.exp)), torch.randn(3, 2)
    assert torch.equal(block(x), -block[0](x))
    assert torch.equal(block(x, form=1), block[0](x).exp())


def test_the_own_mode_chooses() -> None:
    evaluation, training = _form(), _form(torch.exp)
    block, x = _block(Form(evaluation.evaluation, training.evaluation)), torch.randn(3, 2)
    assert torch.equal(block.train()(x), block[0](x).exp())
    assert torch.equal(block.eval()(x), -block[0](x))


def test_graphs_by_the_kind_of_inputs() -> None:
    one, two = fx.Graph(), fx.Graph()
    shared = whole_forms({"eval": one, "train": two})
    assert list(shared) == ["shared"]
    assert (shared["shared"].evaluation, shared["shared"].training) == (one, two)
    assert list(whole_forms({"eval": one, "train": two, "independent_eval": one, "independent": two})) == list(FORMS)
