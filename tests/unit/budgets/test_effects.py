"""Runs that remember calls count what a run of everything counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from packify.budgets.effects import Block, Effects
from packify.budgets.measuring import Network, kept_for_backward, measure, network
from packify.capture.graphs import record_graphs
from packify.core import nested
from packify.core.spec import Spec
from packify.nn.functional import grouped_linear, packed_linear
from packify.ops.table import RULES
from packify.widths.slimming import Member, Slimmer
from tests.models.catalogue import CASES

NETWORKS = (
    "lenet",
    "unet",
    "upsampling unet",
    "norms",
    "activations",
    "shuffles",
    "drop path",
    "reused",
    "encoder",
    "window",
    "lstm",
    "vit",
)


class _Everything(fx.Interpreter):
    """Every node on meta tensors, one after the other."""

    def __init__(self, member: Any, graph: fx.Graph) -> None:
        super().__init__(member.root, garbage_collect_values=False, graph=graph)
        own = (*member.root.named_parameters(remove_duplicate=False), *member.root.named_buffers(remove_duplicate=False))
        self.own = dict(own) | {name: tensor.to("meta") for name, tensor in member.constants.items()}

    def run_node(self, n: fx.Node) -> Any:
        if n.op == "get_attr":
            return self.own[str(n.target)]
        if n.target is grouped_linear:
            (x, weight, bias, groups, *parts), _ = self.fetch_args_kwargs_from_env(n)
            return packed_linear(x.unsqueeze(0), weight, bias, 1, groups, *parts).squeeze(0)
        return super().run_node(n)


def _identity(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _kept(member: Any, graph: fx.Graph, inputs: list[Any], batch: int) -> int:
    kept: dict[int, Tensor] = {}

    def keep(x: Tensor) -> Tensor:
        kept.setdefault(_identity(x), x)
        return x

    inputs = [x.new_empty((2, *x.shape[1:]), device="meta") for x in inputs]
    member.root.train()
    with torch.enable_grad(), torch.device("meta"), saved_tensors_hooks(keep, lambda x: x):
        run = _Everything(member, graph)
        run.run(*inputs)
    own = {_identity(tensor) for tensor in run.own.values()}
    return -(-sum(x.untyped_storage().nbytes() for identity, x in kept.items() if identity not in own) // batch)


def _peak(member: Any, graph: fx.Graph, inputs: list[Any]) -> int:
    """Bytes alive at once, counted node by node."""
    member.root.eval()
    inputs = [x.new_empty((1, *x.shape[1:]), device="meta") for x in inputs]
    with torch.no_grad(), torch.device("meta"):
        run = _Everything(member, graph)
        run.run(*inputs)
    own = {_identity(tensor) for tensor in run.own.values()}
    nodes = list(run.env)
    storages = {node: {_identity(x): x for x in nested.leaves(run.env[node]) if isinstance(x, Tensor)} for node in nodes}
    peak = 0
    for index in range(len(nodes)):
        alive: dict[int, Tensor] = {}
        for node in nodes:
            for identity, x in storages[node].items():
                makers = [at for at, other in enumerate(nodes) if identity in storages[other]]
                last = max(max([at, *(nodes.index(user) for user in nodes[at].users if user in run.env)]) for at in makers)
                if identity not in own and (node.op == "placeholder" or makers[0] <= index <= last):
                    alive[identity] = x
        peak = max(peak, sum(x.untyped_storage().nbytes() for x in alive.values()))
    return peak


def _members(name: str) -> list[Member]:
    torch.manual_seed(0)
    recorded = record_graphs(CASES[name].build(), CASES[name].inputs())
    slimmer = Slimmer(recorded, RULES)
    return [slimmer.member(Spec(1, 2)), slimmer.member(Spec(2, 3, 2, min_channels_per_group=1))]


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_kept_is_what_autograd_keeps(name: str) -> None:
    effects = Effects()
    for member in _members(name):
        one = network(member.root, member.graphs["train"], member.constants, batched=True)
        expected = _kept(member, one.graph, one.inputs, 2)
        assert [kept_for_backward(one, None, effects) for _ in range(2)] == [expected, expected]


@pytest.mark.parametrize("name", ["lenet", "shuffles", "norms", "window"])
def test_the_peak_is_that_of_a_run_of_everything(name: str) -> None:
    effects = Effects()
    for member in _members(name):
        one = network(member.root, member.graphs["eval"], member.constants, batched=True)
        expected = _peak(member, one.graph, one.inputs)
        assert [measure(one, None, effects).peak_bytes for _ in range(2)] == [expected, expected]


def _block(*shape: int, grad: bool = False) -> Block:
    return Block.of(torch.empty(shape, device="meta", requires_grad=grad))


def _nothing(*_: Any) -> int:
    return 0


def test_numbers_that_are_equal_and_not_the_same_are_other_calls() -> None:
    effects, x = Effects(), _block(2, 3)
    with torch.no_grad():
        results = [effects.of("mul", torch.mul, (x, factor), {}, _nothing).value.layout.dtype for factor in (1, 1.0, True, 1)]
        whole = Block.of(torch.empty(2, dtype=torch.int64, device="meta"))
        kinds = [effects.of("mul", torch.mul, (whole, factor), {}, _nothing).value.layout.dtype for factor in (1, 1.0, True, 1)]
    assert results == [torch.float32] * 4
    assert kinds == [torch.int64, torch.float32, torch.int64, torch.int64]


def test_views_lie_in_their_source_whichever_it_is() -> None:
    effects, one, two = Effects(), _block(4, 3), _block(4, 3)
    with torch.no_grad():
        for source in (one, two):
            view = effects.of("t", torch.t, (source,), {}, _nothing).value
            assert view.storage is source.storage
            assert view.layout.stride == (1, 3)
        assert effects.of("relu", F.relu, (one,), {}, _nothing).value.storage is not one.storage
        pieces = effects.of("max", torch.max, (one, 1), {}, _nothing).value
        assert type(pieces).__name__ == "max"
        assert pieces.values.layout.shape == (4,)


def test_what_autograd_keeps_depends_on_what_it_follows() -> None:
    effects = Effects()
    with torch.enable_grad():
        for grads in ((True, True), (True, False), (False, False), (True, True)):
            one, two = (_block(2, 3, grad=grad) for grad in grads)
            outcome = effects.of("mul", torch.mul, (one, two), {}, _nothing)
            kept = {storage for storage, _ in outcome.kept}
            assert kept == {block.storage for block, other in ((one, grads[1]), (two, grads[0])) if other}
            assert outcome.value.layout.requires_grad == any(grads)


def test_what_writes_says_what_its_argument_is_afterwards() -> None:
    effects, x, weight = Effects(), _block(2, 3), _block(2, 3, grad=True)
    with torch.enable_grad():
        outcome = effects.of("add_", Tensor.add_, (x, weight), {}, _nothing, changes=True)
    assert outcome.changed is not None
    assert outcome.changed.storage is x.storage
    assert outcome.changed.layout.requires_grad


def test_a_module_is_run_every_time() -> None:
    effects, calls = Effects(), []

    class Counting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(x)
            return x + 1

    for _ in range(2):
        effects.of(None, Counting(), (_block(2),), {}, _nothing)
    assert len(calls) == 2


def test_networks_of_one_tree_share_their_attributes() -> None:
    recorded = record_graphs(nn.Linear(3, 4), torch.randn(2, 3))
    one = network(recorded.root, recorded.graphs["eval"], recorded.constants, batched=True)
    other: Network = network(recorded.root, recorded.graphs["train"], recorded.constants, batched=True, attributes=one.attributes)
    assert other.attributes is one.attributes
    assert set(one.attributes) == {"weight", "bias"}
