"""New members are drawn as the reference's own code would draw them at the member's shape."""

from __future__ import annotations

import math
import random

import pytest
import torch
from torch import Tensor, nn

import packify
from packify.core.errors import SpecError
from packify.nn.layer_sizes import fans
from packify.nn.tree import resized
from packify.sources.observing import observe_build


def test_fans_of_convs() -> None:
    assert fans(torch.empty(8, 4, 3, 3)) == (36, 72)


def test_buffers_are_cut_or_repeated() -> None:
    assert resized(torch.arange(6), (3,)).tolist() == [0, 1, 2]
    assert resized(torch.arange(3), (5,)).tolist() == [0, 1, 2, 0, 1]


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 128, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10)
    )


IMAGES = torch.randn(2, 3, 8, 8)


def test_members_of_a_network_have_the_scheme_of_their_own_shape() -> None:
    model = network()
    for layer in model:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    with torch.no_grad():
        model[1].running_mean.fill_(3)
    packed = packify.pack(model, IMAGES, alpha=2, num_estimators=4)
    for share in packed.get_parameter("3.weight").detach().chunk(4):
        assert math.isclose(float(share.std()), math.sqrt(2 / (64 * 9)), rel_tol=0.05)
    assert not packed.get_parameter("3.bias").any()
    assert (packed.get_parameter("1.weight") == 1).all()
    assert not packed.get_buffer("1.running_mean").any()
    assert set(packed.report.initialised) == set(dict(model.named_parameters()))
    assert "Conv2d weight (2): normal, variance 2 / fan_out" in str(packed.report)


def test_layer_scales_and_positions() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.out = nn.Linear(5, 64), nn.Linear(64, 3)
            self.scale = nn.Parameter(torch.full((64,), 1e-6))
            self.pos = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, 64), std=0.02))

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.fc(x)[:, None] * self.scale + self.pos).mean(1)

    packed = packify.pack(Net(), torch.randn(2, 5), alpha=2, num_estimators=2)
    assert (packed.get_parameter("scale") == 1e-6).all()
    assert 0.01 < float(packed.get_parameter("pos").detach().std()) < 0.03


@pytest.mark.slow
def test_gamma_and_depthwise_groups_count_in_the_fans() -> None:
    model = packify.load_reference("torchvision:mobilenet_v3_small", num_classes=10)
    packed = packify.pack(model, torch.randn(2, 3, 32, 32), alpha=2, num_estimators=4, gamma=2, gamma_policy="uniform")
    member, gamma = packed.extract(0), {layer.name: layer.gamma for layer in packed.report.layers}
    for name, layer in member.named_modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 2000:
            outputs = layer.weight.shape[0] / gamma[name]  # of one subgroup
            wanted = math.sqrt(2 / (outputs * layer.weight[0, 0].numel()))  # kaiming_normal_(mode="fan_out")
            assert math.isclose(float(layer.weight.detach().std()), wanted, rel_tol=0.15), name


def test_draws_depend_on_the_seed_and_the_member_alone() -> None:
    model = network()
    state = torch.get_rng_state()
    small, large, again = (packify.pack(model, IMAGES, alpha=m / 2, num_estimators=m, seed=5) for m in (2, 4, 4))
    other = packify.pack(model, IMAGES, alpha=2, num_estimators=4, seed=6)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(large.parameters(), again.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(small.extract(1).parameters(), large.extract(1).parameters(), strict=True))
    weights = [network.extract(member).get_parameter("3.weight") for network in (large, other) for member in range(4)]
    assert len({float(weight.detach().sum()) for weight in weights}) == 8


def trained(steps: int = 120) -> nn.Sequential:
    """A network that has learned something, so that its weights are no draw any more."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.LayerNorm(64), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        x = torch.randn(64, 16)
        loss = nn.functional.cross_entropy(model(x), (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long())
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return model


def test_a_trained_reference_is_recognised_and_said_to_be() -> None:
    packed = packify.pack(trained(), torch.randn(2, 16), alpha=2, num_estimators=4)
    (note,) = [note for note in packed.report.notes if "look trained" in note.what]
    assert "packify.pack_members" in note.why
    weight = packed.get_parameter("3.weight").detach()
    assert math.isclose(float(weight.std()), 1 / math.sqrt(3 * 32), rel_tol=0.05)
    assert (packed.get_parameter("2.weight") == 1).all()
    assert packed.report.initialised["3.weight"] == "Linear's own reset"
    fresh = packify.pack(trained(0), torch.randn(2, 16), alpha=2, num_estimators=4)
    assert not [note for note in fresh.report.notes if "trained" in note.what]


class _Cut(nn.Module):
    """Layers that gamma cuts: drawn by their fan-out, the identity, and q, k and v that start at numbers of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.same = nn.Conv2d(3, 32, 1), nn.Conv2d(32, 64, 3, padding=1), nn.Conv2d(64, 64, 1)
        self.qkv, self.fc = nn.Linear(64, 192), nn.Linear(64, 5)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out")
        nn.init.dirac_(self.same.weight)
        nn.init.xavier_uniform_(self.qkv.weight)
        for part in range(3):
            nn.init.constant_(self.qkv.bias[64 * part : 64 * part + 64], part)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.same(self.conv(self.stem(x))).mean((2, 3))).chunk(3, -1)
        out: Tensor = self.fc(q * k.sigmoid() + v)
        return out


@pytest.mark.parametrize("gamma", [1, 2, 4])
@pytest.mark.parametrize("seen", [False, True])
def test_a_layer_that_gamma_cuts_is_drawn_as_the_layers_that_its_subgroups_are(seen: bool, gamma: int) -> None:
    torch.manual_seed(0)
    model = observe_build(_Cut) if seen else _Cut()
    packed = packify.pack(
        model, torch.randn(2, 3, 8, 8), alpha=2, num_estimators=2, gamma=gamma, min_channels_per_group=1, average="mean", seed=1
    )
    assert {layer.name: layer.gamma for layer in packed.report.layers} == {"stem": 1, "conv": gamma, "same": gamma, "qkv": gamma, "fc": 1}
    member = packed.extract(1).state_dict()
    x = torch.randn(2, 64, 3, 3)
    torch.testing.assert_close(nn.functional.conv2d(x, member["same.weight"], groups=gamma), x)
    if seen:  # one layer of a kind does not show what its numbers were computed from
        assert math.isclose(float(member["conv.weight"].std()), math.sqrt(2 / (64 / gamma * 9)), rel_tol=0.05)
        assert math.isclose(float(member["qkv.weight"].std()), math.sqrt(2 * gamma / (64 + 192)), rel_tol=0.05)
        assert member["qkv.bias"].tolist() == [0.0] * 64 + [1.0] * 64 + [2.0] * 64


def test_a_layer_with_a_single_number_is_drawn_as_a_whole() -> None:
    class Scaled(nn.Linear):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__(inputs, outputs)
            self.scale = nn.Parameter(torch.tensor(2.0))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.scale

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), Scaled(64, 64), nn.ReLU(), nn.Linear(64, 5))
    packed = packify.pack(model, torch.randn(2, 8), alpha=2, num_estimators=2, gamma=2, min_channels_per_group=1, average="mean")
    assert {layer.name: layer.gamma for layer in packed.report.layers}["2"] == 2
    assert packed.extract(0).state_dict()["2.scale"] == 2


@pytest.mark.slow
def test_a_trained_network_that_packify_built_is_drawn_as_it_was() -> None:
    model = packify.load_reference("resnet18", num_classes=10)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(torch.rand(parameter.shape[0]).pow(3).view(-1, *(1,) * (parameter.dim() - 1)))
    packed = packify.pack(model, torch.randn(2, 3, 32, 32), alpha=1, num_estimators=2)
    assert packed.report.initialised["layer4.0.conv1.weight"] == "kaiming_normal_(mode='fan_out', nonlinearity='relu')"
    assert "as its own code draws them" in str(packed.report)


@pytest.mark.slow
def test_weights_that_a_user_drew_anew_count() -> None:
    model = packify.load_reference("resnet18", num_classes=10)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.07)
    packed = packify.pack(model, torch.randn(2, 3, 32, 32), alpha=1, num_estimators=2)
    assert packed.report.initialised["layer4.0.conv1.weight"] == "normal, std 0.07"
    assert packed.report.initialised["fc.weight"] == "Linear.reset_parameters"


def test_each_layers_own_reset() -> None:
    model = network()
    nn.init.normal_(model[3].weight, std=7)
    packed = packify.pack(model, IMAGES, alpha=2, num_estimators=2, init="reset")
    assert math.isclose(float(packed.get_parameter("3.weight").detach().std()), 1 / math.sqrt(3 * 64 * 9), rel_tol=0.05)
    assert packed.report.initialised["3.weight"] == "Conv2d's own reset"


def test_a_function_of_the_users() -> None:
    seen: list[tuple[str, tuple[int, ...], int]] = []

    def own(name: str, tensor: Tensor, member: int) -> None:
        seen.append((name, tuple(tensor.shape), member))
        if name == "3.weight":
            nn.init.constant_(tensor, member + 1.0)

    packed = packify.pack(network(), IMAGES, alpha=2, num_estimators=4, init=own)
    assert [float(share.mean()) for share in packed.get_parameter("3.weight").detach().chunk(4)] == [1, 2, 3, 4]
    assert ("3.weight", (64, 32, 3, 3), 2) in seen
    assert len(seen) == 4 * len(list(packed.parameters()))
    assert packed.report.initialised["3.weight"].startswith("own")
    assert packed.report.initialised["6.weight"] == "uniform, variance 1/3 / fan_in"


def test_what_init_may_be() -> None:
    with pytest.raises(SpecError, match="a function"):
        packify.pack(network(), IMAGES, alpha=2, num_estimators=4, init="xavier")  # type: ignore[arg-type]

    def broken(name: str, tensor: Tensor, member: int) -> None:
        raise KeyError(name)

    with pytest.raises(SpecError, match="member 0"):
        packify.pack(network(), IMAGES, alpha=2, num_estimators=4, init=broken)


def test_frozen_tables_are_copied_and_frozen_draws_are_drawn() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.out = nn.Linear(5, 64), nn.Linear(64, 3)
            self.table = nn.Parameter(torch.linspace(0, 1, 64), requires_grad=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.fc(x) + self.table)

    packed = packify.pack(Net(), torch.randn(2, 5), alpha=2, num_estimators=2)
    assert torch.equal(packed.get_parameter("table").chunk(2)[1], torch.linspace(0, 1, 64))


def test_other_generators_and_dtypes_are_left_alone() -> None:
    random.seed(0)
    before = random.getstate()
    packed = packify.pack(network().to(torch.bfloat16), IMAGES.to(torch.bfloat16), alpha=2, num_estimators=2)
    assert random.getstate() == before
    assert packed.get_parameter("3.weight").dtype == torch.bfloat16
    assert math.isclose(float(packed.get_parameter("3.weight").detach().float().std()), 1 / math.sqrt(3 * 64 * 9), rel_tol=0.05)
