"""Log-probabilities of outputs with their classes on any axis, and what is no logits and no probabilities."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from packify.core.errors import DataError, SpecError
from packify.evaluation import classes
from packify.evaluation.classes import (
    checked_given,
    class_log_probabilities,
    default_class_axis,
    label_log_probabilities,
    look_like_probabilities,
)


@pytest.mark.parametrize(("shape", "axis"), [((2, 4), 1), ((2, 6, 4), 2), ((2, 4, 3, 5), 1), ((2, 4, 3, 5, 7), 1)])
def test_the_classes_are_where_networks_have_them(shape: tuple[int, ...], axis: int) -> None:
    assert default_class_axis(len(shape)) == axis
    log_p, logits = class_log_probabilities(torch.randn(3, *shape))
    assert log_p.shape == logits.shape == (3, *shape[:axis], *shape[axis + 1 :], 4)


@pytest.mark.parametrize("axis", [1, 2, 3, -1, -2, -3])
def test_any_axis_behind_the_batch(axis: int) -> None:
    outputs = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64)
    log_p, logits = class_log_probabilities(outputs, axis=axis)
    where = axis + 1 if axis > 0 else axis
    torch.testing.assert_close(log_p, outputs.log_softmax(where).movedim(where, -1))
    assert logits.equal(outputs.movedim(where, -1))


@pytest.mark.parametrize("axis", [0, -2, 2, 7])
def test_an_axis_that_cannot_be(axis: int) -> None:
    with pytest.raises(SpecError, match="from 1 to 1"):
        class_log_probabilities(torch.randn(2, 3, 4), axis=axis)


def test_probabilities_are_normalised_and_zero_is_minus_infinity() -> None:
    log_p, logits = class_log_probabilities(torch.tensor([[[0.2502, 0.7506, 0.0]]]), "probabilities")
    torch.testing.assert_close(log_p.exp(), torch.tensor([[[0.25, 0.75, 0.0]]]))
    assert logits is log_p
    half = torch.tensor([[[0.005, 0.99]]], dtype=torch.bfloat16)  # sums to 0.996
    assert class_log_probabilities(half, "probabilities")[0].dtype == torch.float32
    with pytest.raises(DataError, match=r"sums from 0\.995"):
        class_log_probabilities(torch.tensor([[[0.005, 0.99]]]), "probabilities")


def test_a_label_has_the_probabilities_of_its_absence_and_presence() -> None:
    logits = torch.tensor([[[0.0, 3.0, -200.0, float("inf")]]], dtype=torch.float64)
    log_p, own = label_log_probabilities(logits)
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones_like(logits))
    torch.testing.assert_close(log_p[..., 1].exp(), logits.sigmoid())
    assert own.equal(logits)
    assert log_p[0, 0, 2, 1] == -200
    back, again = label_log_probabilities(logits[..., :2].sigmoid(), "probabilities")
    torch.testing.assert_close(back, log_p[..., :2, :])
    torch.testing.assert_close(again, logits[..., :2])
    for wrong in (1.001, -0.001, float("nan")):
        with pytest.raises(DataError):
            label_log_probabilities(torch.tensor([[[0.5, wrong]]]), "probabilities")


def test_what_looks_like_probabilities() -> None:
    p = torch.randn(2, 3, 4, 5, 5).softmax(2)
    assert look_like_probabilities(p)
    assert not look_like_probabilities(p, -1)
    assert look_like_probabilities(p.half())
    assert look_like_probabilities(torch.eye(3)[None])  # a softmax that is certain
    assert not look_like_probabilities(p.log())
    assert not look_like_probabilities(p * 1.01)
    assert not look_like_probabilities(torch.tensor([[[1.5, -0.5]]]))
    assert not look_like_probabilities(torch.tensor([[[float("nan"), 1.0]]]))
    assert not look_like_probabilities(torch.empty(2, 0, 4))


@pytest.mark.parametrize("given", ["logit", "", None])
def test_outputs_are_logits_or_probabilities(given: Any) -> None:
    with pytest.raises(SpecError, match="logits or probabilities"):
        checked_given(given)


def test_the_ensembles_logits_and_temperatures() -> None:
    log_p = torch.tensor([[[0.9, 0.1]], [[0.5, 0.5]]]).log()
    torch.testing.assert_close(classes.ensemble_log_probabilities(log_p).exp(), torch.tensor([[0.7, 0.3]]))
    assert classes.checked_temperature(2) == 2.0
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(SpecError, match="temperature"):
            classes.checked_temperature(wrong)
