from __future__ import annotations

import torch

from packify.evaluation.ranked import RankedScores


def test_ranked_scores_keep_order_and_sums() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(5000, generator=generator, dtype=torch.float64) * 10 ** (torch.rand(5000, generator=generator) * 12 - 6)
    ranked = RankedScores(1, 300)
    for part in scores.split(77):
        ranked.update(part, torch.ones(len(part)))
    distinct, weights = ranked.table()
    assert len(distinct) <= 300
    assert weights.sum() == 5000
    assert (distinct.diff() > 0).all()
    sorted_scores = scores.sort().values
    ends = weights[:, 0].cumsum(0).long() - 1
    # each row stands for consecutive scores of one sign, at most a binary digit away
    assert torch.equal(torch.sign(sorted_scores[ends]), torch.sign(distinct))
    relative = 2.0**-ranked.digits
    assert ((sorted_scores[ends].abs() - distinct.abs()) <= relative * distinct.abs()).all()
    assert ((sorted_scores[ends].abs() - distinct.abs()) >= 0).all()


def test_equal_scores_are_merged_and_their_weights_added() -> None:
    ranked = RankedScores(2)
    ranked.update(torch.tensor([2.0, -0.0, 1.0]), torch.tensor([1, 1, 1]), torch.tensor([5, 7, 9]))
    ranked.update(torch.tensor([0.0, 2.0, float("-inf")]), torch.tensor([1, 1, 1]), torch.tensor([0.5, 0.25, 3]))
    scores, weights = ranked.table()
    assert scores.tolist() == [float("-inf"), 0.0, 1.0, 2.0]
    assert weights.tolist() == [[1, 3], [2, 7.5], [1, 9], [2, 5.25]]
    assert (ranked.exact, ranked.digits) == (True, 52)


def test_a_table_rounded_to_compare_with_another_is_not_rounded_itself() -> None:
    ranked = RankedScores(1)
    ranked.update(torch.tensor([1.0, 1.5, 1.75, -1.75, 3.0, float("inf")], dtype=torch.float64), torch.ones(6))
    scores, weights = ranked.table(digits=0)  # powers of two, towards zero
    assert scores.tolist() == [-1.0, 1.0, 2.0, float("inf")]
    assert weights[:, 0].tolist() == [1, 3, 1, 1]
    assert ranked.table(digits=1)[0].tolist() == [-1.5, 1.0, 1.5, 3.0, float("inf")]
    assert len(ranked.table()[0]) == 6


def test_nothing_added_and_a_bound_that_no_rounding_reaches() -> None:
    scores, weights = RankedScores(3).table()
    assert (scores.shape, weights.shape) == ((0,), (0, 3))
    ranked = RankedScores(1, max_scores=2)
    ranked.update(torch.tensor([1.0, 2.0, 4.0, 5.0]), torch.ones(4))
    assert ranked.table()[0].tolist() == [1.0, 2.0, 4.0]  # one score for each power of two is as coarse as it gets
    assert ranked.digits == 0


def test_sums_of_the_smallest_scores_share_ties() -> None:
    ranked = RankedScores(2)
    ranked.update(torch.tensor([3.0, 1.0, 1.0, 2.0]), torch.ones(4), torch.tensor([30.0, 10.0, 20.0, 40.0]))
    found = ranked.up_to(torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0], dtype=torch.float64))
    assert found[:, 1].tolist() == [0.0, 15.0, 30.0, 70.0, 100.0]
    assert found[:, 0].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
