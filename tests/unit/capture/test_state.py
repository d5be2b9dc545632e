"""What forward leaves on its modules: state is kept, caches are forgotten, the rest is noted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import Variable

import packify
from packify.capture.graphs import record_graphs


class Stateful(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.body, self.head, self.function = nn.Linear(5, 16), nn.Linear(16, 4), function
        self.weight = nn.Parameter(torch.rand(16) + 0.5)
        self.register_buffer("average", torch.rand(16))
        self.register_buffer("other", torch.rand(16))
        self.register_buffer("steps", torch.zeros(()))
        self.calls, self.width = 0, 0

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(self, self.body(x)))


def _moving_average(net: Stateful, x: Tensor) -> Tensor:
    y = x * net.average
    if net.training:
        net.average = 0.9 * net.average + 0.1 * x.detach().mean(0)
        net.steps = net.steps + 1
    return y + net.average


def _swapped(net: Stateful, x: Tensor) -> Tensor:
    net.average, net.other = net.other, net.average
    return x * net.average


def _replaced_parameter(net: Stateful, x: Tensor) -> Tensor:
    y = x * net.weight
    net.weight = nn.Parameter(0.5 * net.weight + x.detach().mean(0))
    return y * net.weight


def _set_data(net: Stateful, x: Tensor) -> Tensor:
    net.weight.data = torch.renorm(net.weight[None], p=2, dim=0, maxnorm=1)[0]
    return x * net.weight


def _written_without_gradient(net: Stateful, x: Tensor) -> Tensor:
    with torch.no_grad():
        net.weight.mul_(0.5).add_(0.1)
        net.weight.copy_(net.weight.clamp(max=0.4))
        net.weight[0] = 1.0
    return x * net.weight


@pytest.mark.parametrize("function", [_moving_average, _swapped, _replaced_parameter, _set_data, _written_without_gradient])
def test_what_forward_writes_to_its_own_tensors_is_kept_per_member(function: Any) -> None:
    torch.manual_seed(0)
    networks, x = [Stateful(function), Stateful(function)], torch.randn(6, 5)
    packed = packify.pack_members(networks, x)
    for mode in (True, True, False):
        found = packed.train(mode).members(x)
        wanted = [network.train(mode)(x) for network in networks]
        torch.testing.assert_close(found, torch.stack(wanted))
        found.sum().backward()
        for name in {"weight", "average", "other"} & packed.state_dict().keys():
            torch.testing.assert_close(packed.get_submodule("").state_dict()[name], torch.cat([n.state_dict()[name] for n in networks]))
    for index, network in enumerate(networks):
        torch.testing.assert_close(packed.extract(index).get_buffer("steps"), network.steps)


def test_gradients_reach_a_weight_that_forward_rewrites() -> None:
    torch.manual_seed(0)
    model, x = Stateful(_set_data), torch.randn(6, 5)
    packed = packify.pack_members([model, model], x)
    packed.members(x)[0].sum().backward()
    model(x).sum().backward()
    torch.testing.assert_close(packed.get_parameter("weight").grad.chunk(2)[0], model.weight.grad)


def test_the_copy_is_as_it_was() -> None:
    recorded = record_graphs(Stateful(_replaced_parameter), torch.randn(6, 5))
    assert isinstance(recorded.root.weight, nn.Parameter)
    assert recorded.root.weight.shape == (16,)


def _grown(net: Stateful, x: Tensor) -> Tensor:
    net.other = torch.cat([net.other, x.detach().mean(0)])
    return x * net.other[:16]


def _counted(net: Stateful, x: Tensor) -> Tensor:
    net.calls += 1
    net.width = x.shape[1]
    return x


def _other_shape(net: Stateful, x: Tensor) -> Tensor:
    net.weight.data = net.weight[:, None]
    return x


@pytest.mark.parametrize(
    ("function", "notes"), [(_grown, ["other: is replaced by a tensor of another shape"]), (_counted, ["changes calls from 0 to 1"])]
)
def test_what_a_graph_cannot_keep_is_noted(function: Any, notes: list[str]) -> None:
    found = record_graphs(Stateful(function), torch.randn(6, 5)).notes
    assert len(found) == len(notes)
    assert all(text in str(note) for text, note in zip(notes, found, strict=True))


def test_state_inside_a_module_that_is_kept_whole_is_noted() -> None:
    model = nn.Sequential(nn.Linear(5, 5), Stateful(_moving_average))
    (note,) = {str(note) for note in record_graphs(model, torch.randn(6, 5), leaves=[Stateful]).notes if "average" in str(note)}
    assert "kept whole" in note


def test_a_parameter_that_gets_another_shape_is_refused() -> None:
    with pytest.raises(packify.TraceError, match=r"(?s)test_state\.py.*another shape"):
        record_graphs(Stateful(_other_shape), torch.randn(6, 5))


def test_variables_are_tensors_without_history() -> None:
    torch.manual_seed(0)
    model, x = Stateful(lambda net, x: x + Variable(x) * Variable(net.average)), torch.randn(6, 5)
    packed = packify.pack_members([model], x)
    packed.members(x).sum().backward()
    model(x).sum().backward()
    torch.testing.assert_close(packed.get_parameter("body.weight").grad, model.body.weight.grad)
