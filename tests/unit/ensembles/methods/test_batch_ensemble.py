"""BatchEnsemble against its definition, in float64, forward and gradients; what is drawn, counted, folded and refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import packify
from packify.laws.observation import call, floating, relative
from tests.models import images
from tests.models.catalogue import CASES
from tests.unit.ensembles.methods import brute_force


class Grouped(nn.Module):
    """Grouped, depthwise and transposed convs, in one and two dimensions, and a linear layer on channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.grouped = nn.Conv2d(12, 18, 3, groups=3, bias=False)
        self.depthwise = nn.Conv2d(18, 36, 3, groups=18)
        self.up = nn.ConvTranspose2d(36, 12, 2, stride=2, groups=2)
        self.line = nn.Conv1d(12, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(torch.tanh(self.depthwise(torch.tanh(self.grouped(torch.tanh(self.stem(x)))))))
        return self.head(torch.tanh(self.line(x.flatten(2))).transpose(1, 2).mean(1))


def _loss(output: Tensor) -> Tensor:
    return torch.sin(output).pow(2).sum()


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "grouped": (Grouped, (2, 3, 8, 8)),
    "lenet": (images.LeNet, (3, 1, 24, 24)),
    "unet without norm": (lambda: images.UNet(norm=False), (2, 3, 8, 8)),
    "vgg": (lambda: images.vgg().eval(), (2, 3, 8, 8)),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("factors", ["normal", "signs"])
def test_outputs_and_gradients_are_those_of_the_definition(name: str, factors: Any) -> None:
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    model, x = build().double(), torch.randn(shape, dtype=torch.float64)
    training = model.training
    network = packify.batch_ensemble(model, x, num_estimators=3, factors=factors)
    outputs, gradients = brute_force.members(model, network, x, _loss)
    found = network(x).unflatten(0, (3, -1)) if training else network.members(x)
    _loss(found).backward()
    assert relative(found, outputs) < 1e-12
    own = {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert own.keys() == gradients.keys()
    assert max(relative(own[name], gradients[name]) for name in own) < 1e-10


def test_trained_weights_become_the_shared_ones_and_biases_those_of_each_member() -> None:
    model = images.LeNet()
    network = packify.batch_ensemble(model, torch.randn(2, 1, 24, 24), num_estimators=3)
    held = network.state_dict()
    for name, layer in brute_force.layers_of(model):
        assert torch.equal(held[f"{name}.weight"], layer.weight)
        assert all(torch.equal(share, layer.bias) for share in held[f"{name}.bias"].chunk(3))
        assert held[f"{name}.r"].shape[0] == held[f"{name}.s"].shape[0] == 3


def test_factors_are_drawn_from_the_seed_around_one_or_as_signs() -> None:
    model, x = nn.Sequential(nn.Linear(400, 300), nn.ReLU(), nn.Linear(300, 200)), torch.randn(2, 400)
    first, again, other = (packify.batch_ensemble(model, x, average="mean", seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["0.r"], other["0.r"])
    assert not torch.equal(first["0.r"][0], first["0.r"][1])
    assert float(first["0.r"].mean()) == pytest.approx(1, abs=0.05)
    assert float(first["0.r"].std()) == pytest.approx(0.5, abs=0.05)
    signs = packify.batch_ensemble(model, x, average="mean", factors="signs").state_dict()["2.s"]
    assert set(signs.flatten().tolist()) == {-1.0, 1.0}


@pytest.mark.parametrize("biased", [True, False])
def test_a_layer_costs_what_the_formula_says(biased: bool) -> None:
    model, members = nn.Sequential(nn.Linear(7, 5, bias=biased), nn.ReLU(), nn.Linear(5, 4, bias=biased)), 3
    network = packify.batch_ensemble(model, torch.randn(2, 7), num_estimators=members, average="mean")
    wanted = sum(members * (layer.in_features + layer.out_features) + (members - 1) * layer.out_features * biased for layer in model[::2])
    report = network.report
    assert report.params - report.reference_params == wanted == sum(layer.params for layer in report.layers)
    assert report.params == sum(parameter.numel() for parameter in network.parameters())


_QUICK = frozenset(
    ("unet", "standardised", "reused", "weight norm", "last state", "attending", "time first", "tied text", "vit", "per sample")
)


@pytest.mark.parametrize("norms", ["shared", "member"])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in _QUICK else pytest.mark.slow) for name, case in CASES.items() if not case.random]
)
def test_members_are_the_extracted_networks(name: str, norms: Any) -> None:
    torch.manual_seed(0)
    case = CASES[name]
    model, x = case.build().eval(), case.inputs()
    network = packify.batch_ensemble(model, x, num_estimators=2, norms=norms, average="mean")
    outputs = floating(call(network.members, x))
    for member in range(2):
        alone = network.extract(member)
        assert not network.added & dict(alone.named_parameters()).keys() or len(network.folds) < len(network.report.layers)
        assert max(relative(both[member], one) for both, one in zip(outputs, floating(call(alone, x)), strict=True)) < 1e-4


def test_an_extracted_member_is_a_network_of_the_references_shapes() -> None:
    model, x = images.LeNet(), torch.randn(2, 1, 24, 24)
    alone = packify.batch_ensemble(model, x).extract(-1)
    assert {name: tensor.shape for name, tensor in alone.state_dict().items()} == {
        name: tensor.shape for name, tensor in model.state_dict().items()
    }
    model.load_state_dict(alone.state_dict())
    assert relative(model(x), alone(x)) < 1e-6


def test_a_weight_that_two_layers_share_keeps_the_factors_of_both() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
            self.b.weight = self.a.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.tanh(self.a(x)))

    network = packify.batch_ensemble(Tied(), torch.randn(2, 6), average="mean")
    x = torch.randn(3, 6)
    alone = network.extract(1)
    assert {"a.r", "a.s", "b.r", "b.s"} <= dict(alone.named_parameters()).keys()
    assert relative(alone(x), network.members(x)[1]) < 1e-6


def test_norms_of_their_own_keep_members_apart_in_training() -> None:
    torch.manual_seed(0)
    model, x = images.Norms(), torch.randn(6, 3, 6, 6)
    network = packify.batch_ensemble(model.double(), x.double(), norms="member", num_estimators=3)
    assert network.coupled == ()
    assert packify.verify(network).equality < 1e-8
    shared = packify.batch_ensemble(model, x.double(), num_estimators=3)
    assert shared.coupled
    assert any("statistics" in law for law in packify.verify(shared).does_not_hold)


def test_a_batch_of_slices_gives_each_member_its_own() -> None:
    model, x = images.LeNet().train(), torch.randn(6, 1, 24, 24)
    network = packify.batch_ensemble(model, x[:2], num_estimators=3, inputs="independent").train()
    outputs = network(x)
    for member in range(3):
        assert relative(outputs.chunk(3)[member], network.extract(member)(x.chunk(3)[member])) < 1e-5
    with pytest.raises(packify.PackError, match="an input of shape"):
        network(x[:5])
    assert network.eval()(x[:5]).shape == (5, outputs.shape[1])


def test_patterns_choose_layers() -> None:
    model, x = images.LeNet(), torch.randn(2, 1, 24, 24)
    names = [name for name, _ in brute_force.layers_of(model)]
    network = packify.batch_ensemble(model, x, layers=[names[0], names[-1]])
    assert [layer.name for layer in network.report.layers] == [names[0], names[-1]]
    assert {note.node for note in network.report.left_out} == set(names[1:-1])
    others = packify.batch_ensemble(model, x, layers=f"!{names[0]}")
    assert [layer.name for layer in others.report.layers] == names[1:]
    outputs = network.eval().members(x)
    assert max(relative(network.extract(member)(x), outputs[member]) for member in range(4)) < 1e-5


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"num_estimators": 1}, "num_estimators (M)"),
        ({"num_estimators": 2.5}, "num_estimators (M)"),
        ({"norms": "own"}, "norms"),
        ({"factors": "ones"}, "factors"),
        ({"layers": "no.such.layer"}, "layers"),
        ({"layers": 3}, "layers"),
        ({"layers": "!*"}, "layers"),
        ({"seed": -1}, "seed"),
        ({"inputs": "mine"}, "inputs"),
    ],
)
def test_wrong_settings_are_one_clear_error(options: dict[str, Any], where: str) -> None:
    with pytest.raises(packify.SpecError) as caught:
        packify.batch_ensemble(images.LeNet(), torch.randn(2, 1, 24, 24), **options)
    assert caught.value.where == where
    assert caught.value.found
    assert caught.value.why
    assert caught.value.fix


def test_a_network_without_layers_cannot_differ() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.weight

    with pytest.raises(packify.SpecError, match="none of which gets factors"):
        packify.batch_ensemble(Scale(), torch.randn(2, 3))


def test_the_reference_and_the_global_random_state_stay_as_they_were() -> None:
    model, x = images.LeNet(), torch.randn(2, 1, 24, 24)
    before, state = {name: tensor.clone() for name, tensor in model.state_dict().items()}, torch.get_rng_state()
    packify.batch_ensemble(model, x)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
