from __future__ import annotations

import pytest
import torch
from torch import fx

from packify.nn.averaging import AVERAGES, averaged, class_axis, could_be_logits, maker

_LOGITS = 3 * torch.randn(4, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)  # "m b k"


@pytest.mark.parametrize("shape", [(4, 5, 7), (4, 5, 3, 7), (4, 5, 7, 2, 3)])
def test_logits_average_to_the_log_of_the_mean_softmax(shape: tuple[int, ...]) -> None:
    logits = torch.randn(shape, dtype=torch.float64)
    axis = class_axis(len(shape) - 1)
    expected = torch.stack([member.softmax(axis) for member in logits]).mean(0)
    found = averaged(logits, "probs")
    torch.testing.assert_close(found.exp(), expected)
    torch.testing.assert_close(found.softmax(axis), expected)


def test_labels_average_to_the_logit_of_the_mean_sigmoid() -> None:
    torch.testing.assert_close(averaged(_LOGITS, "sigmoid").sigmoid(), _LOGITS.sigmoid().mean(0))
    extreme = averaged(torch.full((2, 1, 1), 800.0, dtype=torch.float64), "sigmoid")
    assert float(extreme) == pytest.approx(800.0)


def test_gaussians_average_to_the_mixtures_moments() -> None:
    mean, variance = torch.randn(3, 5, 2, dtype=torch.float64), torch.rand(3, 5, 2, dtype=torch.float64)
    found_mean, found_variance = averaged(torch.cat([mean, variance], -1), "gaussian").chunk(2, -1)
    torch.testing.assert_close(found_mean, mean.mean(0))
    second_moment = (variance + mean.square()).mean(0)
    torch.testing.assert_close(found_variance, second_moment - mean.mean(0).square())


def test_votes() -> None:
    assert averaged(torch.tensor([[3, 1], [3, 2], [0, 1]]), "vote").tolist() == [3, 1]
    assert averaged(torch.tensor([[2], [1]]), "vote").tolist() == [1]  # the smallest of several
    assert averaged(torch.tensor([[True], [True], [False]]), "vote").tolist() == [True]


def test_the_mean_none_and_what_is_no_tensor() -> None:
    torch.testing.assert_close(averaged(_LOGITS, "mean"), _LOGITS.mean(0))
    assert averaged(_LOGITS, "none") is _LOGITS
    assert averaged("label", "probs") == "label"


@pytest.mark.parametrize("how", [how for how in AVERAGES if how not in ("none", "gaussian", "vote")])
def test_members_that_agree_are_their_average(how: str) -> None:
    same = _LOGITS[:1].expand(4, *_LOGITS.shape[1:])
    found = averaged(same, how)
    torch.testing.assert_close(found.softmax(-1) if how == "probs" else found, same[0].softmax(-1) if how == "probs" else same[0])


@pytest.mark.parametrize(("ndim", "axis"), [(1, 0), (2, 1), (3, 2), (4, 1), (5, 1)])
def test_where_the_classes_are(ndim: int, axis: int) -> None:
    assert class_axis(ndim) == axis


def test_what_could_be_logits() -> None:
    assert could_be_logits(torch.zeros(2, 3), ())
    assert not could_be_logits(torch.zeros(2, 3), ("not_logits",))
    assert not could_be_logits(torch.zeros(2, 1), ())
    assert not could_be_logits(torch.zeros(3), ())


def test_the_maker_of_an_output_is_behind_what_hands_it_on() -> None:
    graph = fx.Graph()
    made = graph.call_function(torch.tanh, (graph.placeholder("x"),))
    handed = graph.call_function(torch.flatten, (graph.call_function(torch.clone, (made,)), 1))
    traits = {torch.flatten: {"hands_on"}, torch.clone: {"hands_on"}}
    assert maker(handed, lambda node: traits.get(node.target, ())) is made
    assert maker(made, lambda node: ()) is made
