"""What is wrong with targets, batches, checkpoints, loaders and folders is one error of four parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import packify
from packify.sources.images import labelled_images, unlabelled_images

M, K = 3, 5


def _network(width: int = 12, classes: int = K) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential()
    model.body, model.head = nn.Sequential(nn.Linear(6, width), nn.ReLU()), nn.Linear(width, classes)
    return model


@pytest.fixture(scope="module")
def packed() -> packify.PackedNetwork:
    return packify.pack(_network(), torch.zeros(2, 6), alpha=2, num_estimators=M, average="probs")


_X, _Y = torch.randn(4, 6), torch.tensor([0, 1, 2, 3])
_NAN = torch.full((4, 6), torch.nan)


def _independent(packed: packify.PackedNetwork, _: Path) -> Any:
    twin = packify.pack(_network(), torch.zeros(2, 6), alpha=2, num_estimators=M, inputs="independent", average="probs")
    return twin.train()(torch.randn(4, 6))


def _diverged(packed: packify.PackedNetwork, folder: Path) -> Any:
    torch.save({name: torch.full_like(value, torch.nan) for name, value in _network().state_dict().items()}, folder / "a.pth")
    return packify.load_members(_network(), [folder / "a.pth"])


def _other(packed: packify.PackedNetwork, folder: Path) -> Any:
    torch.save(_network(16).state_dict(), folder / "a.pth")
    return packify.pack_members([folder / "a.pth"], _X, model=_network())


def _empty(packed: packify.PackedNetwork, folder: Path) -> Any:
    (folder / "images" / "a").mkdir(parents=True)
    return labelled_images(folder / "images", (3, 8, 8))


_CASES: dict[str, tuple[Callable[[packify.PackedNetwork, Path], Any], tuple[str, ...]]] = {
    "targets too few": (lambda p, _: packify.EnsembleLoss(F.cross_entropy, num_estimators=M)(p.train()(_X), _Y[:3]), ("(12, 5)", "(3,)")),
    "targets of another length": (lambda p, _: packify.EnsembleLoss(F.cross_entropy)(p.train()(_X), _Y.repeat(2)), ("(12, 5)", "(8,)")),
    "targets of another form": (
        lambda p, _: packify.EnsembleLoss(F.cross_entropy)(p.train()(_X), _Y[:, None]),
        ("(4, 5)", "(4, 1)", "multi-target"),
    ),
    "labels outside to train on": (
        lambda p, _: packify.EnsembleLoss(nn.CrossEntropyLoss())(p.train()(_X), _Y + 2),
        ("(4, 5)", "(4,)", "out of bounds"),
    ),
    "targets of other maps": (
        lambda p, _: packify.EnsembleLoss(F.cross_entropy)(torch.zeros(12, 5, 3, 3), torch.zeros(4, 2, 3).long()),
        ("(4, 5, 3, 3)", "(4, 2, 3)"),
    ),
    "numbers that would be broadcast": (
        lambda p, _: packify.EnsembleLoss(nn.MSELoss())(torch.zeros(12, 1), torch.zeros(4)),
        ("(4, 1)", "(4,)", "every output with every target"),
    ),
    "numbers that would be broadcast by a function": (
        lambda p, _: packify.EnsembleLoss(F.l1_loss)(torch.zeros(12), torch.zeros(4, 1)),
        ("(4,)", "(4, 1)"),
    ),
    "gaussian targets": (lambda p, _: packify.GaussianNLL()(torch.ones(4, 4), torch.zeros(4, 3)), ("(4, 2)", "(4, 3)")),
    "an independent batch": (_independent, ("(4, 6)", "3 members")),
    "a checkpoint of another architecture": (_other, ("body.0.weight", "(16, 6)", "(12, 6)")),
    "a checkpoint with NaN": (_diverged, ("body.0.weight", "NaN")),
    "NaN inputs": (lambda p, _: packify.evaluate(p, [(_NAN, _Y)]), ("NaN", "batch 0")),
    "NaN uncertainty": (lambda p, _: packify.uncertainty(p, _NAN), ("NaN",)),
    "an empty loader": (lambda p, _: packify.evaluate(p, []), ("no batch",)),
    "a data set for a loader": (lambda p, _: packify.evaluate(p, torch.utils.data.TensorDataset(_X, _Y)), ("TensorDataset", "DataLoader(")),
    "no loader": (lambda p, _: packify.evaluate(p, None), ("a NoneType",)),  # type: ignore[arg-type]
    "numbers without a target": (
        lambda p, _: packify.evaluate(nn.Linear(6, 1), [(_X, torch.tensor([1.0, 2.0, torch.nan, 0.0]))], kind="regression"),
        ("batch 0: targets", "NaN"),
    ),
    "a temperature in words": (lambda p, _: packify.evaluate(p, [(_X, _Y)], temperature="warm"), ("'warm'",)),  # type: ignore[arg-type]
    "an axis in words": (lambda p, _: packify.evaluate(p, [(_X, _Y)], class_axis="k"), ("class_axis=k",)),  # type: ignore[arg-type]
    "no members": (lambda p, _: packify.uncertainty(torch.zeros(0, 4, 5)), ("(0, 4, 5)", "at least one")),
    "an option that a fit has not": (
        lambda p, _: packify.TemperatureScaling().fit(p, [(_X, _Y)], ood=[_X]),
        ("the option ood", "ignore_index"),
    ),
    "an empty loader to calibrate on": (lambda p, _: packify.TemperatureScaling().fit(p, []), ("no batch",)),
    "an empty set": (
        lambda p, _: packify.evaluate(p, torch.utils.data.DataLoader(torch.utils.data.TensorDataset(_X[:0], _Y[:0]))),
        ("no batch",),
    ),
    "an empty OOD loader": (lambda p, _: packify.evaluate(p, [(_X, _Y)], ood=[]), ("out-of-distribution data",)),
    "an OOD batch of no samples": (lambda p, _: packify.evaluate(p, [(_X, _Y)], ood=[_X[:0]]), ("4 in-distribution and 0",)),
    "labels outside the classes": (lambda p, _: packify.evaluate(p, [(_X, _Y + 2)]), ("from 2 to 5", "5 classes")),
    "labels below 0": (lambda p, _: packify.evaluate(p, [(_X, _Y - 1)]), ("from -1 to 2",)),
    "labels to calibrate on": (lambda p, _: packify.ConformalSets().fit(p, [(_X, _Y + 2)]), ("from 2 to 5",)),
    "a folder without images": (_empty, ("no images",)),
    "no folder": (lambda p, folder: labelled_images(folder / "none", (3, 8, 8)), ("no such folder",)),
    "a folder of nothing": (lambda p, folder: unlabelled_images(folder, (3, 8, 8)), ("no images",)),
}


@pytest.mark.parametrize("name", _CASES)
def test_one_clear_error(packed: packify.PackedNetwork, tmp_path: Path, name: str) -> None:
    call, says = _CASES[name]
    with pytest.raises(packify.PackifyError) as caught:
        call(packed, tmp_path)
    message = str(caught.value)
    assert all(text in message for text in says), message
    assert all((caught.value.where, caught.value.found, caught.value.why, caught.value.fix))
    assert len(message.splitlines()) == 4
