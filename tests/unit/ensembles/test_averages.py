"""How outputs are averaged when the user does not say: some thirty heads."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import packify

X, IMAGE = torch.randn(3, 6), torch.randn(2, 3, 8, 8)


class Net(nn.Module):
    """A linear trunk, a last layer of a given name, and what comes after it."""

    def __init__(self, last: str, outputs: int = 4, after: Callable[[Tensor], Any] = lambda y: y, **attributes: Any) -> None:
        super().__init__()
        self.trunk = nn.Linear(6, 8)
        self.add_module(last, nn.Linear(8, outputs))
        self.last, self.after = last, after
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Any:
        return self.after(self.get_submodule(self.last)(self.trunk(x).relu()))


class Dense(nn.Module):
    """Convs, the last of a given name."""

    def __init__(self, last: str, outputs: int, resize: bool = False) -> None:
        super().__init__()
        self.body, self.last, self.resize = nn.Conv2d(3, 8, 3, padding=1), last, resize
        self.add_module(last, nn.Conv2d(8, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.get_submodule(self.last)(self.body(x).relu())
        return F.interpolate(y, size=x.shape[-2:], mode="bilinear") if self.resize else y


class Pooled(nn.Module):
    """A network in network: the last conv makes a map for every class, of which the mean is taken."""

    def __init__(self, last: str, **attributes: Any) -> None:
        super().__init__()
        self.dense = Dense(last, 5)
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(self.dense(x), 1).flatten(1)


class Series(nn.Module):
    """Convs along a series, ``"b k n"`` or ``"b n k"``."""

    def __init__(self, name: str, last: bool = False) -> None:
        super().__init__()
        self.body, self.name, self.last = nn.Conv1d(6, 8, 3, padding=1), name, last
        self.add_module(name, nn.Conv1d(8, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.get_submodule(self.name)(self.body(x).relu())
        return y.transpose(1, 2) if self.last else y


class Tokens(nn.Module):
    def __init__(self, **attributes: Any) -> None:
        super().__init__()
        self.body, self.out = nn.Linear(6, 8), nn.Linear(8, 5)
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.body(x).relu())


def _config(**values: Any) -> Any:
    return SimpleNamespace(**values)


_CASES = [
    ("a layer fc", Net("fc"), X, "probs", False),
    ("a layer head", Net("head"), X, "probs", False),
    ("a layer classifier", Net("classifier"), X, "probs", False),
    ("a layer cls_head", Net("cls_head"), X, "probs", False),
    ("num_classes", Net("out", num_classes=4), X, "probs", False),
    ("another num_classes", Net("out", num_classes=7), X, "mean", True),
    ("num_labels of a config", Net("out", config=_config(num_labels=4)), X, "probs", False),
    ("a multi-label config", Net("out", config=_config(num_labels=4, problem_type="multi_label_classification")), X, "sigmoid", False),
    ("a regression config", Net("score", config=_config(num_labels=4, problem_type="regression")), X, "mean", False),
    ("four regression outputs", Net("out"), X, "mean", True),
    ("a head of boxes", Net("bbox_head"), X, "mean", True),
    ("a head of quantiles", Net("quantile_head"), X, "mean", True),
    ("log-probabilities", Net("out", after=lambda y: F.log_softmax(y, 1)), X, "probs", False),
    ("log-probabilities of tokens", Net("out", after=lambda y: F.log_softmax(y, dim=-1)), torch.randn(2, 7, 6), "probs", False),
    ("log-probabilities over positions", Net("out", after=lambda y: F.log_softmax(y, dim=1)), torch.randn(2, 7, 6), "mean", False),
    ("classes before positions", Net("head", after=lambda y: y.transpose(1, 2)), torch.randn(2, 7, 6), "mean", True),
    ("classes of a series", Series("head"), torch.randn(2, 6, 7), "mean", True),
    ("classes of a series, last", Series("head", last=True), torch.randn(2, 6, 7), "probs", False),
    ("classes behind the pixels", Net("head"), torch.randn(2, 5, 5, 6), "mean", True),
    ("one output", Net("fc", outputs=1), X, "mean", False),
    ("probabilities", Net("fc", after=lambda y: y.softmax(-1)), X, "mean", False),
    ("sigmoids", Net("fc", after=torch.sigmoid), X, "mean", False),
    ("features behind a norm", Net("out", after=lambda y: F.layer_norm(y, (4,))), X, "mean", False),
    ("pooled features", nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), IMAGE, "mean", False),
    ("classes of a conv, pooled", Pooled("classifier"), IMAGE, "probs", False),
    ("numbers of a conv, pooled", Pooled("out"), IMAGE, "mean", True),
    ("features of a conv, pooled", Pooled("conv_head", num_classes=0), IMAGE, "mean", False),
    ("a segmentation", Dense("classifier", 5), IMAGE, "probs", False),
    ("a segmentation, resized", Dense("segmentation_head", 5, resize=True), IMAGE, "probs", False),
    ("an image from an image", Dense("conv_last", 3), IMAGE, "mean", True),
    ("tokens with features", Tokens(), torch.randn(2, 7, 6), "mean", False),
    ("tokens with classes", Tokens(num_classes=5), torch.randn(2, 7, 6), "probs", False),
]


@pytest.mark.parametrize(("model", "x", "how", "warned"), [case[1:] for case in _CASES], ids=[case[0] for case in _CASES])
def test_logits_need_evidence(model: nn.Module, x: Tensor, how: str, warned: bool) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        packed = packify.pack(model, x, alpha=2, num_estimators=2)
    assert packed.average == how
    told = [warning for warning in caught if issubclass(warning.category, packify.AverageWarning)]
    assert bool(told) == warned
    if warned:
        assert 'average="probs"' in str(told[0].message)
        assert any("settle it" in note.what for note in packed.report.averaging)
        with warnings.catch_warnings():
            warnings.simplefilter("error", packify.AverageWarning)
            assert packify.pack(model, x, alpha=2, num_estimators=2, average="mean").average == "mean"


@pytest.mark.slow
def test_a_trunk_of_a_registry_is_no_classifier() -> None:
    x = torch.empty(2, 3, 64, 64, device="meta")
    with torch.device("meta"):
        trunk, classifier = packify.load_reference("resnet18", num_classes=0), packify.load_reference("resnet18", num_classes=10)
    assert packify.pack(trunk, x, alpha=2, num_estimators=2).average == "mean"
    assert packify.pack(classifier, x, alpha=2, num_estimators=2).average == "probs"


def test_several_outputs_are_told_by_their_paths() -> None:
    model = Net("out", after=lambda y: {"a": y, "b": y * 2})
    with pytest.warns(packify.AverageWarning, match="output a"):
        packify.pack(model, X, alpha=2, num_estimators=2)


def test_sigmoid_and_gaussian_averages_are_what_they_say() -> None:
    packed = packify.pack(Net("out"), X, alpha=2, num_estimators=3, average="sigmoid").eval()
    members = packed.members(X)
    torch.testing.assert_close(packed(X).sigmoid(), members.sigmoid().mean(0))
    gaussian = packify.pack(
        Net("out", after=lambda y: torch.cat([y[:, :2], F.softplus(y[:, 2:])], 1)), X, alpha=2, num_estimators=3, average="gaussian"
    )
    mean, variance = gaussian.eval().members(X).chunk(2, -1)
    expected = torch.cat([mean.mean(0), variance.mean(0) + mean.var(0, correction=0)], -1)
    torch.testing.assert_close(gaussian(X), expected)
