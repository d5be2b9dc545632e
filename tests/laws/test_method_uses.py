"""What users do with the paper's other ensembles, on networks that nobody named: artefacts, strategies, evaluation, export, blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import packify
from packify.laws.observation import relative

M = 3


class Mlp(nn.Module):
    """Linear layers, a norm and a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head, self.norm = nn.Linear(9, 24), nn.Linear(24, 24), nn.Linear(24, 4), nn.LayerNorm(24)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm(self.one(x)))
        return self.head(x + F.gelu(self.two(x)))


class UNet(nn.Module):
    """Two scales, a skip connection, a class for every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.mid = self._block(3, 12), self._block(12, 24)
        self.up, self.join, self.head = nn.ConvTranspose2d(24, 12, 2, stride=2), self._block(24, 12), nn.Conv2d(12, 4, 1)

    @staticmethod
    def _block(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        low = self.down(x)
        return self.head(self.join(torch.cat([self.up(self.mid(F.max_pool2d(low, 2))), low], 1)))


def _timm(name: str, **settings: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        model: nn.Module = pytest.importorskip("timm").create_model(name, num_classes=4, **settings)
        return model

    return build


@dataclass(frozen=True)
class Case:
    """A network, the shape of an input, and the shape of a target."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    target: tuple[int, ...] = ()


CASES = {
    "mlp": Case(Mlp, (9,)),
    "unet": Case(UNet, (3, 8, 8), (8, 8)),
    "regnetx_002": Case(_timm("regnetx_002"), (3, 32, 32)),
    "vit_tiny": Case(_timm("vit_tiny_patch16_224", img_size=32, depth=2), (3, 32, 32)),
    "mobilenetv3": Case(_timm("mobilenetv3_small_050"), (3, 32, 32)),
}
METHODS: dict[str, Callable[[packify.Recording], packify.PackedNetwork]] = {
    "deep": lambda recording: recording.deep_ensemble(num_estimators=M),
    "batch-ensemble": lambda recording: recording.batch_ensemble(num_estimators=M),
    "masksembles": lambda recording: recording.masksembles(num_estimators=M),
    "mimo": lambda recording: recording.mimo(num_estimators=M),
}
_QUICK = (("mlp", "batch-ensemble"), ("unet", "masksembles"), ("mlp", "mimo"))


def each(test: Any) -> Any:
    """Every network by every method; of these a few in the quick suite."""
    pairs = [(name, method) for name in CASES for method in METHODS]
    others = [pair for pair in pairs if pair not in _QUICK]
    slow, rest = others[::4], [pair for pair in others if pair not in others[::4]]
    marked = ((_QUICK, ()), (slow, pytest.mark.slow), (rest, pytest.mark.cases))
    cases = [pytest.param(*pair, marks=marks) for some, marks in marked for pair in some if pair in pairs]
    return pytest.mark.quick_cases(len(pairs))(pytest.mark.parametrize(("name", "method"), cases)(test))


def _ensemble(name: str, method: str) -> tuple[nn.Module, Any, Tensor, Tensor]:
    """Reference, ensemble in evaluation mode, inputs and targets."""
    torch.manual_seed(0)
    case = CASES[name]
    model, x = case.build().eval(), torch.randn(4, *case.shape)
    return model, METHODS[method](packify.record(model, x)).eval(), x, torch.randint(0, 4, (4, *case.target))


@each
def test_saved_and_loaded(name: str, method: str, tmp_path: Path) -> None:
    model, network, x, _ = _ensemble(name, method)
    packify.save(network, tmp_path / "whole")
    loaded = packify.load(tmp_path / "whole", model=model)
    assert type(loaded).__name__ == type(network).__name__
    assert loaded.spec == network.spec
    assert torch.equal(loaded(x), network(x))
    assert "Mult-Adds" in packify.model_card(tmp_path / "whole", model=model)
    if method != "mimo":
        packify.save_member(network, 1, tmp_path / "alone")
        assert relative(packify.load(tmp_path / "alone", model=model)(x), network.members(x)[1]) < 1e-4


@each
def test_every_strategy_gives_the_same(name: str, method: str) -> None:
    _, network, x, _ = _ensemble(name, method)
    members = network.members(x)
    assert members.shape[:2] == (M, 4)
    known = network.suited_strategies or ("grouped", "in turn", "threads", "batched", "per layer")
    for strategy in (*known, "auto"):
        network.strategy = strategy
        assert relative(network.members(x), members) < 1e-4, strategy


@each
def test_evaluated(name: str, method: str) -> None:
    _, network, x, y = _ensemble(name, method)
    found = packify.evaluate(network, [(x, y)], ood=None if CASES[name].target else [(3 * x, y)])
    assert len(found.members) == M
    information = packify.uncertainty(network, x, kind="classification").mutual_information
    assert information.shape == y.shape
    assert bool((information > 0).all())


@each
def test_every_block_of_the_reference_is_called(name: str, method: str) -> None:
    model, network, x, _ = _ensemble(name, method)
    network.strategy = "grouped"
    called: dict[str, set[str]] = {"reference": set(), "ensemble": set()}
    for what, root in (("reference", model), ("ensemble", network)):
        for path, part in root.named_modules():
            if path:
                part.register_forward_hook(lambda *_, path=path, what=what: called[what].add(path))
        with torch.no_grad():
            root(x)
    known = {path for path, _ in network.named_modules()}
    assert called["reference"] & known <= called["ensemble"]
    assert {path for path in called["reference"] if [*model.get_submodule(path).parameters()]} <= known


@each
def test_trained(name: str, method: str) -> None:
    _, network, x, y = _ensemble(name, method)
    loss_of = packify.EnsembleLoss(nn.CrossEntropyLoss(), num_estimators=M)
    optimiser = torch.optim.SGD(packify.parameter_groups(network.train(), lr=1e-3))
    x, y = network.training_batch(x, y) if method == "mimo" else (x, y)  # type: ignore[operator] # a method of that network
    loss_of(network(x), y).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    optimiser.step()
    assert bool(torch.isfinite(network.eval()(x)).all())


@pytest.mark.slow
@pytest.mark.skipif(torch.__version__ < (2, 12), reason="export in torch 2.11 cannot prove that members and batch are merged for any batch")
@pytest.mark.quick_cases(5)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CASES)
def test_exported(name: str, method: str, tmp_path: Path) -> None:
    _, network, x, _ = _ensemble(name, method)
    found = packify.export(network, tmp_path / "net.pt2", outputs=("mean", "members"))
    assert [one.batch for one in found.comparisons] == [1, 2, 5]
    output = torch.export.load(tmp_path / "net.pt2").module()(x)
    assert relative(output["members"], network.members(x)) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_tuned(method: str) -> None:
    _, network, x, _ = _ensemble("unet", method)
    members = network.members(x)
    tuned = network.tune(x, budget_s=0.2)
    assert {one.strategy for one in tuned.tried if one.rounds}
    assert relative(network.members(x), members) < 1e-4
