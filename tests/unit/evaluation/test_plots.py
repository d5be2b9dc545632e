"""The picture: files, panels and refusals."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from packify.core.errors import DataError, SpecError
from packify.evaluation import Comparison, check_picture, compare, evaluate, plot_evaluation
from packify.evaluation.plots import draw_evaluation


@pytest.fixture(scope="module")
def found() -> Comparison:
    torch.manual_seed(0)
    logits, labels = torch.randn(60, 4) * 2, torch.randint(4, (60,))
    return compare(
        {"a": nn.Identity(), "b": [nn.Identity(), nn.Linear(4, 4)]}, [(logits, labels)], ood=[logits / 4], shift=[(logits, labels)]
    )


@pytest.mark.parametrize(("name", "begins"), [("a.png", b"\x89PNG"), ("a.pdf", b"%PDF"), ("a.svg", b"<?xml")])
def test_files(found: Comparison, tmp_path: Path, name: str, begins: bytes) -> None:
    written = plot_evaluation(found, tmp_path / name, "title", "max_logit")
    assert written.read_bytes().startswith(begins)


def test_panels(found: Comparison) -> None:
    assert len(draw_evaluation(found).axes) == 5  # reliability, a row of histograms for each and what they share, rejection
    assert len(draw_evaluation(found["a"]).axes) == 4
    plain = compare({"a": nn.Identity()}, [(torch.randn(1, 3), torch.tensor([1]))])
    figure = draw_evaluation(plain["a"], score="entropy")
    assert len(figure.axes) == 2
    texts = [text.get_text() for axes in draw_evaluation(found).axes if axes.get_legend() for text in axes.get_legend().get_texts()]
    assert any(text.startswith("b: under shift") for text in texts)


def test_numbers_of_a_narrow_range_stand_apart() -> None:
    """Confidences that are nearly one value: the labels of the axis do not run into each other."""
    torch.manual_seed(0)
    logits = 1e-3 * torch.randn(60, 3)
    figure = draw_evaluation(evaluate(nn.Identity(), [(logits, torch.randint(3, (60,)))], ood=[logits / 2]))
    figure.canvas.draw()
    for axes in figure.axes:
        boxes = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text() and label.get_visible()]
        assert all(left.x1 <= right.x0 for left, right in itertools.pairwise(boxes))


def test_refusals(found: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match="png, pdf or svg"):
        check_picture(tmp_path / "a.xyz")
    with pytest.raises(SpecError, match="no such folder"):
        check_picture(tmp_path / "no" / "a.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DataError, match="cannot be written"):
        plot_evaluation(found, tmp_path / "folder.png")
    with pytest.raises(DataError, match="0 evaluations"):
        draw_evaluation({})
    with pytest.raises(DataError, match="score"):
        draw_evaluation(found, score="variance")  # type: ignore[arg-type]
    numbers = compare({"a": nn.Identity()}, [(torch.rand(4, 2), torch.rand(4))], kind="gaussian")
    for other in (numbers, numbers["a"], numbers.evaluations):
        with pytest.raises(DataError, match="RegressionEvaluation"):
            draw_evaluation(other)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SpecError, match="packify-torch"):
        check_picture(tmp_path / "a.png")
