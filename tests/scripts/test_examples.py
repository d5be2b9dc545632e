"""The examples run, and what they print and draw is what it should be."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import packify
from packify.evaluation import RegressionEvaluation
from tests.examples import example

pytestmark = pytest.mark.skipif(not find_spec("matplotlib"), reason="needs matplotlib")


@pytest.mark.slow
def test_regression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = example("regression").main(["--quick", "--out", str(tmp_path / "r.png")])
    assert list(found) == ["diabetes", "houses"]
    for comparison in found.values():
        assert list(comparison.evaluations) == ["single network", "packed (2, 4, 1)", "Deep Ensemble of 4"]
        assert all(isinstance(one, RegressionEvaluation) for one in comparison.evaluations.values())
        assert comparison["single network"].epistemic == 0 < comparison["packed (2, 4, 1)"].epistemic
    assert capsys.readouterr().out.count("| houses |") == 3
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_segmentation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = example("segmentation").main(["--quick", "--out", str(tmp_path / "s.png")])
    assert found["packed (2, 4, 1)"].samples == 8 * 16 * 16
    assert found["packed (2, 4, 1)"].num_estimators == 4
    assert "| single network |" in capsys.readouterr().out
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


def test_shapes_are_labelled_where_they_are() -> None:
    images, labels = example("segmentation").shapes(6, 24, seed=0, noise=0.0)
    assert bool(((images[:, 0] > 0) == (labels > 0)).all())
    assert labels.unique().tolist() == [0, 1, 2]
    crosses, none = example("segmentation").shapes(6, 24, seed=0, noise=0.0, crosses=True)
    assert none.unique().tolist() == [0, 255]
    assert bool(((crosses[:, 0] > 0) == (none == 0)).all())


@pytest.mark.slow
def test_pretrained(capsys: pytest.CaptureFixture[str]) -> None:
    known, compared = example("pretrained").main(["--depth", "1", "--epochs", "1", "--samples", "200"])
    apart, packed = known["siblings apart"], known["packed vit_small_patch16_224"]
    assert packed.nll == pytest.approx(apart.nll, rel=1e-4)
    assert packed.num_estimators == 2
    assert [one.num_estimators for one in compared.evaluations.values()] == [1, 4, 4]
    assert "inherit" in capsys.readouterr().out


def _small(num_classes: int = 10) -> nn.Module:
    model = nn.Sequential()
    model.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    model.fc = nn.Linear(32, num_classes)
    return model


@pytest.mark.parametrize("method", ["packed", "single", "deep"])
def test_the_papers_recipe(method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    script = example("cifar_train")
    monkeypatch.setattr(script.cifar, "resnet18", _small)
    lrs: list[float] = []
    step = torch.optim.SGD.step

    def seen(self: torch.optim.SGD, *args: Any) -> Any:
        lrs.append(self.param_groups[0]["lr"])
        return step(self, *args)

    monkeypatch.setattr(torch.optim.SGD, "step", seen)
    options = [
        "--data",
        "generated",
        "--epochs",
        "6",
        "--validation",
        "16",
        "--batch-size",
        "16",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "net"),
    ]
    found = script.main(["resnet18", "--method", method, *options])
    assert found.num_estimators == {"packed": 4, "single": 1, "deep": 4}[method]
    assert found.ood.max_softmax.ood_samples == 64
    assert len(lrs) == 18  # 48 images in batches of 16, 6 epochs
    assert lrs == pytest.approx([0.05] * 6 + [0.005] * 6 + [0.0005] * 6)
    assert "AUPR" in capsys.readouterr().out
    if method != "single":
        loaded = packify.load(tmp_path / "net", _small())
        assert packify.evaluate(loaded, script.loader_of(script.generated_data().test, script_given())).accuracy == found.accuracy


def script_given() -> Any:
    from argparse import Namespace

    return Namespace(batch_size=16, workers=0)


def test_recipes_are_of_the_papers_networks() -> None:
    script = example("cifar_train")
    assert {name: (recipe.epochs, recipe.gamma) for name, recipe in script.RECIPES.items()} == {
        "resnet18": (75, 2),
        "resnet50": (200, 2),
        "wide_resnet28_10": (200, 1),
    }
    with torch.device("meta"):
        assert all(hasattr(getattr(script.cifar, name)(), "fc") for name in script.RECIPES)


@pytest.mark.slow
def test_the_papers_resnet18_trains() -> None:
    found = example("cifar_train").main(["resnet18", "--data", "generated", "--epochs", "1", "--batch-size", "32", "--device", "cpu"])
    assert found.samples == 64


@pytest.mark.slow
def test_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["digits.py", "--seeds", "1", "--epochs", "1", "--out", str(tmp_path / "digits")])
    example("digits").main()
    assert capsys.readouterr().out.count("\n| ") == 5
    assert (tmp_path / "digits.png").is_file()
    rows = {name: [(1, [70.0, 71.0], [0.9, 0.8]), (2, [72.0], [0.7])] for name in ("alpha", "gamma", "M")}
    example("digits").draw_ablation(rows, tmp_path / "ablation.png")
    assert (tmp_path / "ablation.png").is_file()


@pytest.mark.slow
def test_export_speed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script, path = example("export_speed"), tmp_path / "cells.json"
    options = ["resnet10t", "--size", "32", "--rounds", "2", "--files", str(tmp_path / "files"), "--out", str(path)]
    found = script.main([*options, "--to", "eager,pt2", "--only", "*/pt2"])
    assert list(found) == ["resnet10t/pt2"]
    assert list(found["resnet10t/pt2"]) == ["single", "grouped", "in turn", "per layer"]
    assert len(list((tmp_path / "files").iterdir())) == 4
    again = script.main([*options, "--to", "eager,pt2"])  # the cell that is done is kept, the other is added
    assert list(again) == ["resnet10t/pt2", "resnet10t/eager"]
    assert again["resnet10t/pt2"] == found["resnet10t/pt2"] == json.loads(path.read_text())["cells"]["resnet10t/pt2"]
    assert all(one["ms"] > 0 and one["ratio"] > 0 for cell in again.values() for one in cell.values())
    assert again["resnet10t/eager"]["single"]["ratio"] == 1
    assert capsys.readouterr().out.count("| resnet10t |") == 3
    with pytest.raises(SystemExit, match="choose another --out"):
        script.main([*options, "--alpha", "3"])
