"""The laws after training for real, and after what is done with a trained network: save, load, extract, part, join."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import packify
from tests.laws import checks

M, K = 3, 10


class Attention(nn.Module):
    """Patches, a class token, one block, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 24, 4, 4)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, 24))
        self.norm, self.qkv, self.proj = nn.LayerNorm(24), nn.Linear(24, 72), nn.Linear(24, 24)
        self.norm2, self.up, self.down = nn.LayerNorm(24), nn.Linear(24, 48), nn.Linear(48, 24)
        self.head = nn.Linear(24, K)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(len(x), -1, -1), x), 1)
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, n, 3, 6, c // 6).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return self.head(x[:, 0])


def convolutional() -> nn.Module:
    model = nn.Sequential()
    model.features = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU()
    )
    model.pool, model.flatten, model.head = nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, K)
    return model


_NETWORKS: dict[str, Callable[[], nn.Module]] = {"convolutional": convolutional, "attention": Attention}


def _digits() -> tuple[Tensor, Tensor]:
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    return torch.tensor(digits.images)[:, None] / 8 - 1, torch.tensor(digits.target)


def _train(network: nn.Module, epochs: int, members: int = 1, seed: int = 0) -> nn.Module:
    x, y = (each[:1000] for each in _digits())
    x = x.to(next(network.parameters()).dtype)
    criterion = packify.EnsembleLoss(nn.CrossEntropyLoss(), num_estimators=members)
    optimiser = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9)
    generator = torch.Generator().manual_seed(seed)
    network.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=generator).split(50):
            optimiser.zero_grad()
            criterion(network(x[rows]), y[rows]).backward()
            optimiser.step()
    return network.eval()


def _accuracy(network: nn.Module) -> float:
    x, y = (each[1000:] for each in _digits())
    with torch.no_grad():
        return float((network.eval()(x.to(next(network.parameters()).dtype)).argmax(1) == y).double().mean())


@pytest.fixture(scope="module", params=_NETWORKS)
def trained(request: pytest.FixtureRequest) -> tuple[packify.PackedNetwork, Callable[[], nn.Module]]:
    build = _NETWORKS[request.param]
    torch.manual_seed(0)
    packed = packify.pack(build().double(), _digits()[0][:4], alpha=2, num_estimators=M, average="probs")
    return _train(packed, 4, M), build  # type: ignore[return-value]


def _check(packed: packify.PackedNetwork, build: Callable[[], nn.Module]) -> None:
    """Laws 1, 2, 3, 6 and 7, with the weights and statistics that it has."""
    x = _digits()[0][1000:1006]
    checks.check_equality(packed, x)
    checks.check_poison(packed, x)
    checks.check_activations(packed, x)
    checks.check_parity(packed, x)
    checks.check_member_major(packed, build())
    checks.check_budget(packed, build())


@pytest.mark.slow_cases("attention", "convolutional")
def test_it_was_trained_for_real(trained: tuple[packify.PackedNetwork, Callable[[], nn.Module]]) -> None:
    packed, _ = trained
    assert _accuracy(packed) > 0.75
    assert all(_accuracy(packed.extract(member)) > 0.6 for member in range(M))


def test_laws_after_training(trained: tuple[packify.PackedNetwork, Callable[[], nn.Module]]) -> None:
    _check(*trained)


def test_laws_after_save_and_load(trained: tuple[packify.PackedNetwork, Callable[[], nn.Module]], tmp_path: Path) -> None:
    packed, build = trained
    packify.save(packed, tmp_path / "net")
    loaded = packify.load(tmp_path / "net", build())
    x = _digits()[0][1000:1010]
    torch.testing.assert_close(loaded(x), packed(x), rtol=1e-12, atol=1e-12)
    _check(loaded, build)  # type: ignore[arg-type]


def test_laws_after_part_and_join(trained: tuple[packify.PackedNetwork, Callable[[], nn.Module]]) -> None:
    packed, build = trained
    x = _digits()[0][1000:1010]
    some, one = packify.part(packed, [2, 0]), packify.part(packed, [1])
    torch.testing.assert_close(some.members(x), packed.members(x)[[2, 0]])
    _check(some, build)
    joined = packify.join([one, some])
    torch.testing.assert_close(joined.members(x), packed.members(x)[[1, 2, 0]])
    torch.testing.assert_close(joined.eval()(x), packed(x))
    _check(joined, build)


def test_a_member_goes_on_training_alone_as_it_would_inside(trained: tuple[packify.PackedNetwork, Callable[[], nn.Module]]) -> None:
    packed, _ = trained
    inside = checks.copied(packed)
    alone = [inside.extract(member) for member in range(M)]
    _train(inside, 1, M, seed=5)
    x = _digits()[0][1000:1010]
    for member, network in enumerate(alone):
        _train(network, 1, seed=5)
        torch.testing.assert_close(inside.members(x)[member], network(x), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", _NETWORKS)
def test_a_packed_deep_ensemble_is_the_separately_trained_networks(name: str) -> None:
    networks = []
    for number in range(2):
        torch.manual_seed(number)
        networks.append(_train(_NETWORKS[name]().double(), 2, seed=number))
    x = _digits()[0][1000:1020]
    packed = packify.pack_members(networks, x[:2], average="probs")
    for member, network in enumerate(networks):
        torch.testing.assert_close(packed.members(x)[member], network(x), rtol=1e-9, atol=1e-12)
    mean = torch.stack([network(x).softmax(1) for network in networks]).mean(0)
    torch.testing.assert_close(packed.eval()(x).softmax(1), mean)
    found = packify.compare({"packed": packed, "apart": networks}, [(x, _digits()[1][1000:1020])])
    assert found["packed"].nll == pytest.approx(found["apart"].nll)


@pytest.mark.parametrize("name", _NETWORKS)
def test_identity_after_training(name: str) -> None:
    """alpha = 1, M = 1 with the trained weights is the trained network."""
    torch.manual_seed(0)
    network = _train(_NETWORKS[name]().double(), 1)
    x = _digits()[0][1000:1010]
    packed = packify.pack(network, x[:2], alpha=1, num_estimators=1, weights="inherit", average="probs").eval()
    torch.testing.assert_close(packed.members(x)[0], network(x), rtol=1e-12, atol=1e-12)
