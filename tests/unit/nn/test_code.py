"""Graphs as functions, and networks that `torch.compile` keeps apart."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import fx, nn
from torch._dynamo.testing import CompileCounter

import packify
from packify.nn.block import Form, functions_from, hidden_names, source_of
from packify.nn.code import own_class, shared_class, written

_X = torch.randn(2, 3, 6, 6)


def _packed(seed: int = 0, width: int = 8) -> packify.PackedNetwork:
    torch.manual_seed(seed)
    layers = (nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return packify.pack(nn.Sequential(*layers, nn.Linear(width, 4)), _X, alpha=2, num_estimators=2, seed=seed)


def _codes(network: nn.Module) -> set[int]:
    return {id(getattr(network, name).__func__.__code__) for name in ("forward", "members") if hasattr(network, name)}


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


def test_every_network_has_code_of_its_own() -> None:
    one, two = _packed(0), _packed(1)
    assert _codes(one).isdisjoint(_codes(two))
    assert one.forward.__doc__ == packify.PackedNetwork.forward.__doc__


def test_networks_with_the_same_code_share_it() -> None:
    packed = _packed()
    assert type(copy.deepcopy(packed)) is type(packed)
    assert type(packed.extract(0)) is type(packed.extract(1))
    torch.func.stack_module_state([packed.extract(0), packed.extract(1)])


def test_the_class_is_the_written_one_in_all_but_code() -> None:
    packed = _packed()
    assert isinstance(packed, packify.PackedNetwork)
    assert isinstance(packed.extract(0), packify.MemberNetwork)
    assert (type(packed).__name__, type(packed).__module__) == ("PackedNetwork", "packify.nn.packed_network")
    assert shared_class(packed) is packify.PackedNetwork
    assert own_class(nn.Linear(1, 1)) is None


def test_a_pickle_names_the_written_class() -> None:
    packed = _packed().eval()
    again = pickle.loads(pickle.dumps(packed))
    assert _codes(again).isdisjoint(_codes(packed))
    assert shared_class(again) is packify.PackedNetwork
    assert torch.equal(again(_X), packed(_X))


def test_copies_of_a_network_that_is_compiled_run_their_own_weights() -> None:
    packed = _packed().eval()
    packed.compile(backend="eager")
    copied, shallow = copy.deepcopy(packed), copy.copy(packed)
    with torch.no_grad():
        before = packed(_X)
        for parameter in packed.parameters():
            parameter.zero_()
        assert torch.equal(copied(_X), before)
        assert torch.equal(shallow(_X), packed(_X))


def test_a_changed_graph_runs_after_recompile() -> None:
    packed = _packed().eval()
    member = packed.extract(0)
    before, code = member(_X), _codes(member)
    graph = packed.member_template.graphs["eval"]
    (output,) = graph.find_nodes(op="output")
    with graph.inserting_before(output):
        output.args = ([graph.call_function(torch.neg, (output.args[0][0],))],)
    packed.member_template.recompile()
    changed = packed.extract(0)
    assert torch.equal(changed(_X), -before)
    assert torch.equal(member(_X), before)
    assert _codes(changed).isdisjoint(code)


def test_a_class_that_a_wrapper_puts_in_front_stays() -> None:
    packed = _packed()
    packed.__class__ = type("Sharded", (type(packed),), {})
    packed.recompile()
    assert type(packed).__name__ == "Sharded"
    assert shared_class(packed) is packify.PackedNetwork


def _compiled(networks: list[nn.Module], entry: Callable[[nn.Module], Any] = lambda network: network) -> int:
    """How often the networks are compiled when each is called twice in each mode; more than eight for one code is an error."""
    torch.compiler.reset()
    counter = CompileCounter()
    for network in networks:
        compiled = torch.compile(entry(network), backend=counter, fullgraph=True)
        for training in (False, True, False, True):
            network.train(training)
            compiled(_X)
    return int(counter.frame_count)


def test_members_of_one_network_are_compiled_once() -> None:
    packed = _packed()
    assert _compiled([packed.extract(member) for member in (0, 1, 0)]) == 2


@pytest.mark.slow
def test_a_dozen_packed_networks_stay_compiled() -> None:
    assert _compiled([_packed(seed) for seed in range(12)]) == 24


@pytest.mark.slow
def test_a_dozen_members_and_a_dozen_copies_stay_compiled() -> None:
    assert _compiled([_packed(seed, 4 + 2 * seed).extract(0) for seed in range(12)]) == 24
    packed = _packed()
    assert _compiled([copy.deepcopy(packed) for _ in range(12)], lambda network: network.members) == 2
