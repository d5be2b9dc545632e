"""MIMO against networks with hand-written heads: a first layer of M times the channels, a last one of M times the classes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import packify
from packify.laws.observation import call, floating, relative
from tests.models import images
from tests.models.catalogue import CASES


def _by_hand(model: Any, network: Any, first: str, last: str) -> nn.Module:
    """A copy of the reference with a wide first conv and a wide last linear layer, and the weights of `network`."""
    made, members = copy.deepcopy(model), network.num_estimators
    narrow, head = model.get_submodule(first), model.get_submodule(last)
    wide = nn.Conv2d(members * narrow.in_channels, narrow.out_channels, narrow.kernel_size, narrow.stride, narrow.padding).double()
    heads = nn.Linear(head.in_features, members * head.out_features).double()
    with torch.no_grad():
        wide.weight.copy_(torch.cat(network.get_parameter(f"{first}.weight").chunk(members), 1))
        wide.bias.copy_(narrow.bias)
        heads.weight.copy_(network.get_parameter(f"{last}.weight"))
        heads.bias.copy_(network.get_parameter(f"{last}.bias"))
    made.set_submodule(first, wide)
    made.set_submodule(last, heads)
    return made


def test_outputs_and_gradients_are_those_of_hand_written_heads() -> None:
    torch.manual_seed(0)
    model, x = images.LeNet().double(), torch.randn(6, 1, 24, 24).double()
    network = packify.mimo(model, x[:2], num_estimators=3).train()
    layers = [layer.name for layer in network.report.layers]
    hand = _by_hand(model, network, layers[0], layers[-1]).train()
    found, wanted = network(x), torch.cat(hand(torch.cat(x.chunk(3), 1)).chunk(3, 1))
    assert relative(found, wanted) < 1e-12
    found.sin().sum().backward()
    wanted.sin().sum().backward()
    theirs = hand.get_submodule(layers[0]).weight.grad
    ours = torch.cat(network.get_parameter(f"{layers[0]}.weight").grad.chunk(3), 1)
    assert relative(ours, theirs) < 1e-10
    shared = {name: parameter.grad for name, parameter in hand.named_parameters() if name.rpartition(".")[0] not in layers}
    assert max(relative(network.get_parameter(name).grad, gradient) for name, gradient in shared.items()) < 1e-10


def test_at_test_all_members_read_the_same_input() -> None:
    x = torch.randn(4, 1, 24, 24)
    network = packify.mimo(images.LeNet(), x).eval()
    tiled = network.run_form("independent", (torch.cat([x] * 4),), {})[0]
    assert relative(network.members(x), tiled) < 1e-5
    assert network(x).shape == tiled.shape[1:]
    assert packify.verify(network).equality < 1e-8


@pytest.mark.parametrize("name", ["unet", "standardised", "weight norm", "encoder", "vit", "mixer", "two inputs", "tuple output", "lstm"])
def test_any_network_with_a_first_and_a_last_layer(name: str) -> None:
    torch.manual_seed(0)
    case = CASES[name]
    model, x = case.build().eval(), case.inputs()
    network = packify.mimo(model, x, num_estimators=2, average="mean").eval()
    reference, found = floating(call(model, x)), floating(call(network.members, x))
    assert [tuple(output.shape[1:]) for output in found] == [tuple(output.shape) for output in reference]
    assert all(bool((output[0] != output[1]).any()) for output in found)
    assert network.report.params - network.report.reference_params == sum(layer.params for layer in network.report.layers)


def test_between_the_first_and_the_last_layer_there_is_one_network() -> None:
    network = packify.mimo(images.vgg(), torch.randn(2, 3, 8, 8))
    axes = [node.meta.get("axis") for node in network.graphs["train"].nodes if node.meta["op"] in ("relu", "max_pool2d")]
    assert axes
    assert set(axes) == {None}


def test_first_and_last_layers_start_from_the_references_values_in_orders_of_their_own() -> None:
    model = images.LeNet()
    network = packify.mimo(model, torch.randn(2, 1, 24, 24), num_estimators=4)
    first, last = (network.get_parameter(f"{layer.name}.weight").chunk(4) for layer in network.report.layers)
    own = model.get_parameter(f"{network.report.layers[0].name}.weight")
    assert torch.allclose(first[1].flatten().sort().values * 2, own.flatten().sort().values)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(last[0], last[1])


class _Bytes(nn.Module):
    """Reads images as files hold them."""

    def __init__(self) -> None:
        super().__init__()
        self.net = images.LeNet()

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.net(x[:, [0]].float() / 255 - 0.5)
        return found


class _Table(nn.Module):
    """Looks token ids up without an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.mixed, self.head = nn.Parameter(torch.randn(9, 4)), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.mixed(self.table[x]).relu().mean(1))
        return found


def test_images_of_bytes_are_cast_by_the_network() -> None:
    torch.manual_seed(0)
    network = packify.mimo(_Bytes(), torch.zeros(2, 1, 24, 24, dtype=torch.uint8), num_estimators=3).train()
    x = torch.randint(0, 256, (6, 1, 24, 24)).to(torch.uint8)
    inputs, targets = network.training_batch(x, torch.arange(6) % 3)
    assert inputs.dtype == torch.uint8
    packify.EnsembleLoss(nn.CrossEntropyLoss(), num_estimators=3)(network(inputs), targets).backward()
    by_itself = packify.mimo(images.LeNet(), torch.zeros(2, 1, 24, 24), num_estimators=3)
    by_itself.load_state_dict({name.removeprefix("net."): tensor for name, tensor in network.state_dict().items()})
    assert relative(network.eval().members(x), by_itself.eval().members(x.float() / 255 - 0.5)) < 1e-6


def test_members_are_not_separable_and_token_ids_are_no_channels() -> None:
    network = packify.mimo(images.LeNet(), torch.randn(2, 1, 24, 24))
    with pytest.raises(packify.PackError, match="not separable"):
        network.extract(0)
    case = CASES["text"]
    with pytest.raises(packify.PackError, match="embedding by whole numbers of an input"):
        packify.mimo(case.build(), case.inputs())
    with pytest.raises(packify.PackError, match="getitem by whole numbers of an input"):
        packify.mimo(_Table(), torch.zeros(2, 5, dtype=torch.long))
    with pytest.raises(packify.PackError, match="both the first and the last"):
        packify.mimo(nn.Linear(3, 2), torch.randn(2, 3), average="mean")


@pytest.mark.parametrize("options", [{"num_estimators": 1}, {"rho": 1.1}, {"rho": -0.5}, {"batch_repetitions": 0}])
def test_wrong_settings_are_one_clear_error(options: dict[str, Any]) -> None:
    with pytest.raises(packify.SpecError) as caught:
        packify.mimo(images.LeNet(), torch.randn(2, 1, 24, 24), **options)
    assert caught.value.found
    assert caught.value.fix


def test_a_batch_that_m_does_not_divide_is_refused() -> None:
    network = packify.mimo(images.LeNet(), torch.randn(2, 1, 24, 24)).train()
    with pytest.raises(packify.PackError, match="for 4 members"):
        network(torch.randn(6, 1, 24, 24))
    inputs, targets = network.training_batch(torch.randn(6, 1, 24, 24), torch.arange(6) % 3)
    loss = packify.EnsembleLoss(nn.CrossEntropyLoss(), num_estimators=4)(network(inputs), targets)
    loss.backward()
    assert isinstance(loss, Tensor)
