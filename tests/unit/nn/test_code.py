"""Graphs as functions, and networks that `torch.compile` keeps apart."""

from __future__ import annotations

import copy
import inspect
import pickle
import pydoc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

import packify
from packify.nn.block import Form, functions_from, hidden_names, source_of
from packify.nn.code import own_class, shared_class

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


@pytest.mark.slow
def test_copies_of_a_network_that_is_compiled_run_their_own_weights() -> None:
    packed = _packed().eval()
    packed.compile(backend="eager")
    copied, shallow = copy.deepcopy(packed), copy.copy(packed)
    with torch.no_grad():
        before = packed(_X)
        for parameter in packed.parameters():
            parameter.zero_()
        torch.testing.assert_close(copied(_X), before)
        torch.testing.assert_close(shallow(_X), packed(_X))


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


@pytest.mark.slow
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


# -- the reference's signature ---------------------------------------------------------------------------------------


class _Called(nn.Module):
    """A network that is called in every way that Python knows."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 8), nn.Linear(8, 4)

    def forward(
        self,
        x: torch.Tensor,
        /,
        table: torch.Tensor,
        scale: float = 1.0,
        *rest: torch.Tensor,
        mask: torch.Tensor | None = None,
        **others: Any,
    ) -> torch.Tensor:
        """Not the packed network's."""
        y = self.one(x + table).relu() * scale
        for more in rest:
            y = y + more.mean()
        for more in others.values():
            y = y * more.mean()
        return self.two(y if mask is None else y * mask)


def test_forward_and_members_have_the_references_signature() -> None:
    x, wanted = torch.randn(3, 6), inspect.signature(_Called.forward)
    packed = packify.pack(_Called(), (x, x), alpha=2, num_estimators=2)
    for method in (type(packed).forward, type(packed).members, type(packed.extract(0)).forward):
        assert inspect.signature(method) == wanted
    assert inspect.get_annotations(type(packed).forward) == inspect.get_annotations(_Called.forward)
    assert "(x: 'torch.Tensor', /, table: 'torch.Tensor', scale: 'float' = 1.0, *rest" in pydoc.plain(pydoc.render_doc(packed.forward))
    assert packed.forward.__doc__ == packify.PackedNetwork.forward.__doc__


def test_arguments_come_by_position_and_by_name() -> None:
    x, y, z = torch.randn(3, 3, 6).unbind()
    mask = torch.rand(8)
    packed = packify.pack(_Called(), (x, y), alpha=2, num_estimators=2).eval()
    assert torch.equal(packed(x, table=y), packed(x, y))
    assert torch.equal(packed(x, y, 1.0), packed(x, y))
    for wrong, error in (((x,), TypeError), ((x, y, 2.0), packify.PackError), ((x, y, 1.0, z), packify.PackError)):
        with pytest.raises(error):
            packed(*wrong)
    with pytest.raises(packify.PackError, match="mask"):
        packed(x, y, mask=mask)


def test_what_is_recorded_with_every_kind_of_argument() -> None:
    class Keywords(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(6, 8), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor, *, flip: bool, table: torch.Tensor | None = None) -> torch.Tensor:
            y = self.one(x if table is None else x + table)
            return self.two(-y if flip else y)

    x, table = torch.randn(2, 3, 6).unbind()
    packed = packify.pack(Keywords(), {"x": x, "flip": True, "table": table}, alpha=2, num_estimators=2).eval()
    assert inspect.signature(packed.forward).parameters["flip"].default is True
    assert torch.equal(packed(x, table=table), packed(x, flip=True, table=table))
    with pytest.raises(packify.PackError, match="flip"):
        packed(x, flip=False, table=table)


class _Members(nn.Module):
    def __init__(self, packed: packify.PackedNetwork) -> None:
        super().__init__()
        self.packed = packed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.packed.members(x)


@pytest.mark.skipif(torch.__version__ < (2, 12), reason="export in torch 2.11 cannot prove that members and batch are merged for any batch")
@pytest.mark.parametrize("of_members", [False, True])
def test_exports_with_a_dynamic_batch(of_members: bool) -> None:
    packed = _packed().eval()
    network = _Members(packed) if of_members else packed
    name = "x" if of_members else "input"
    program = torch.export.export(network, (_X,), dynamic_shapes={name: {0: torch.export.Dim("b")}})
    more = torch.randn(5, 3, 6, 6)
    torch.testing.assert_close(program.module()(more), network(more))
    assert {"0.weight", "6.weight"} <= {parameter.removeprefix("packed.") for parameter in program.state_dict}
