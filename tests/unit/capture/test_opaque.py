"""Functions with a gradient of their own keep it; what is only recomputed is recorded as it is."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import packify
from packify.capture.graphs import record_graphs


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return -grad


class Itself(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 3 * grad


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        return x.mul_(2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 5 * grad


class Signed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.sign(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


class Weighted(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x * weight

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return 2 * grad * weight, (grad * x).sum(0)


class Pair(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, factor: float = 2.0) -> tuple[Tensor, Tensor]:
        return x * factor, x + 1

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.factor = inputs[1]

    @staticmethod
    def backward(ctx: Any, first: Tensor, second: Tensor) -> tuple[Tensor, None]:
        return 7 * ctx.factor * first + second, None


bound_early, bound_dirty = Reversed.apply, Doubled.apply


class Net(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.body, self.next, self.head = nn.Linear(5, 16), nn.Linear(16, 16), nn.Linear(16, 4)
        self.weight, self.function = nn.Parameter(torch.rand(16)), function

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(self, self.next(self.body(x))))


def _without_gradient(net: Net, x: Tensor) -> Tensor:
    with torch.no_grad():
        kept = bound_early(x) + checkpoint(net.next, x, use_reentrant=True)
    return x + kept


@pytest.mark.parametrize(
    "function",
    [
        lambda net, x: Reversed.apply(x),
        lambda net, x: bound_early(x),
        lambda net, x: Itself.apply(x),
        lambda net, x: bound_dirty(x * 1) + 1,
        lambda net, x: Signed.apply(x),
        lambda net, x: Weighted.apply(x, net.weight),
        lambda net, x: sum(Pair.apply(x)),
        lambda net, x: sum(Pair.apply(x, 3.0)),
        lambda net, x: checkpoint(lambda y: y * net.weight + net.next(y), x, use_reentrant=True),
        lambda net, x: checkpoint(lambda y: y * net.weight + net.next(y), x, use_reentrant=False),
        _without_gradient,
    ],
)
def test_gradients_are_the_references(function: Any) -> None:
    torch.manual_seed(0)
    model, x = Net(function), torch.randn(6, 5)
    packed = copy.deepcopy(packify.pack_members([model, Net(function)], x))
    packed.members(x)[0].square().sum().backward()
    model(x).square().sum().backward()
    for name, parameter in model.named_parameters():
        found = packed.get_parameter(name).grad if name in packed.state_dict() else None
        if parameter.grad is None:
            assert found is None or not found.any()
        else:
            torch.testing.assert_close(found.chunk(2)[0], parameter.grad)
    packify.verify(packify.pack(Net(function), x, alpha=2, num_estimators=4))


def test_a_function_is_one_node_that_can_be_pickled() -> None:
    graph = record_graphs(Net(lambda net, x: Reversed.apply(x)), torch.randn(6, 5)).graphs["eval"]
    (node,) = [node for node in graph.nodes if node.meta["op"] == "autograd::Reversed"]
    assert pickle.loads(pickle.dumps(node.target)) == node.target == copy.deepcopy(node.target)
    assert "detach" not in [node.meta["op"] for node in graph.nodes]


def _on(function: Any) -> Any:
    class Applied(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, run: Any, x: Tensor) -> Tensor:
            return run(x)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
            return None, grad

    return lambda net, x: Applied.apply(function if function is not None else net.next, x)


@pytest.mark.parametrize(("function", "message"), [(None, "not among its arguments"), (torch.sin, "an argument that is a")])
def test_what_a_function_depends_on_has_to_be_seen(function: Any, message: str) -> None:
    with pytest.raises(packify.TraceError, match=message):
        record_graphs(Net(_on(function)), torch.randn(6, 5))


@torch.library.custom_op("packify_tests::relu", mutates_args=())
def _relu_by_name_only(x: Tensor) -> Tensor:
    return x.cumsum(1)


@torch.library.custom_op("packify_tests::increment", mutates_args=("x",))
def _increment(x: Tensor) -> None:
    x.add_(1)


_relu_by_name_only.register_fake(torch.empty_like)
_increment.register_fake(lambda x: None)


@torch.jit.script
def gelu(x: Tensor) -> Tensor:
    return x.cumsum(1)


def _incremented(x: Tensor) -> Tensor:
    x = x * 1
    _increment(x)
    return x


@pytest.mark.parametrize("function", [_relu_by_name_only, gelu, _incremented])
def test_an_operator_of_the_users_is_not_torchs_of_the_same_name(function: Any) -> None:
    torch.manual_seed(0)
    model, x = Net(lambda net, x: function(x)), torch.randn(6, 5)
    torch.testing.assert_close(packify.pack_members([model, model], x).members(x)[1], model(x))
