"""A member's channels: the same for every axis of one width, whole heads and whole groups, the important ones first."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from packify.widths.axes import Axis
from packify.widths.selection import Selection, atoms, importance_of, leading, select


def _drawn(*axes: Axis, important: dict[Axis, Tensor] | None = None, uncut: tuple[Axis, ...] = (), seed: int = 0) -> Selection:
    importance = {atom: torch.ones(atom.size, dtype=torch.float64) for atom in atoms(axes)} | (important or {})
    return select(axes, importance, uncut, torch.Generator().manual_seed(seed))


@settings(max_examples=40)
@given(st.data())
def test_a_compound_is_chosen_as_its_parts_are(data: st.DataObject) -> None:
    def atom() -> Axis:
        size = data.draw(st.integers(1, 5))
        return Axis(size, data.draw(st.integers(1, size)))

    a, b, c = atom(), atom(), atom()
    merged = Axis(a.size * b.size * a.size, a.member * b.member * a.member, "*", (a, b, a))
    joined = Axis(merged.size + c.size + a.size, merged.member + c.member + a.member, "+", (merged, c, a))
    selection = _drawn(joined, seed=data.draw(st.integers(0, 99)))
    x, y, z = (selection.indices(axis) for axis in (a, b, c))
    assert all((own.diff() > 0).all() and len(own) == axis.member for own, axis in ((x, a), (y, b), (z, c)))
    # of a tensor with these axes, cutting the factors is cutting the product
    grid = torch.arange(merged.size).view(a.size, b.size, a.size)
    wanted = grid[x][:, y][:, :, x].flatten()
    assert selection.indices(merged).equal(wanted)
    assert selection.indices(joined).equal(torch.cat((wanted, z + merged.size, x + merged.size + c.size)))


def test_important_channels_are_chosen_and_chance_decides_between_equals() -> None:
    axis = Axis(6, 3)
    scores = torch.tensor([1.0, 1e9, 1.0, 1e9, 1.0, 1e9], dtype=torch.float64)
    assert all(_drawn(axis, important={axis: scores}, seed=seed).indices(axis).tolist() == [1, 3, 5] for seed in range(20))
    assert len({tuple(_drawn(axis, seed=seed).indices(axis).tolist()) for seed in range(40)}) > 10
    assert _drawn(axis, seed=3).indices(axis).equal(_drawn(axis, seed=3).indices(axis))


def test_what_all_members_share_is_cut_from_the_front() -> None:
    axis, other = Axis(6, 3), Axis(6, 3)
    both = Axis(36, 9, "*", (axis, other))
    selection = _drawn(both, uncut=(axis,), important={axis: torch.arange(1, 7).double() ** 20})
    assert selection.indices(axis).tolist() == [0, 1, 2]


def test_a_member_that_is_wider_repeats_the_reference() -> None:
    assert leading(Axis(3, 7)).tolist() == [0, 1, 2, 0, 1, 2, 0]
    axis = Axis(3, 7)
    assert _drawn(axis).indices(axis).equal(leading(axis))
    same = Axis(5, 5)
    assert _drawn(same).indices(same).tolist() == [0, 1, 2, 3, 4]


def test_every_block_gives_as_many() -> None:
    axis = Axis(12, 6, blocks=3)
    scores = torch.arange(1, 13).double() ** 30
    assert _drawn(axis, important={axis: scores}).indices(axis).tolist() == [2, 3, 6, 7, 10, 11]
    # a member that does not come out in whole blocks takes the best of all
    odd = Axis(12, 4, blocks=3)
    assert _drawn(odd, important={odd: scores}).indices(odd).tolist() == [8, 9, 10, 11]


def test_equal_shares_have_the_same_choice() -> None:
    axis = Axis(12, 6)
    share = Axis(4, 2, "/", (axis,), divisor=3)
    scores = torch.ones(12, dtype=torch.float64)
    scores[[1, 5, 9, 3]] = 1e9  # the second of every share, and the last of the first
    found = _drawn(axis, share, important={axis: scores})
    assert found.indices(axis).tolist() == [1, 3, 5, 7, 9, 11]
    assert found.indices(share).tolist() == [1, 3]


def test_a_share_that_the_choice_does_not_fill_is_cut_from_the_front() -> None:
    axis = Axis(8, 4)
    share = Axis(4, 2, "/", (axis,), divisor=2)
    assert Selection({axis: torch.tensor([0, 1, 2, 7])}).indices(share).tolist() == [0, 1]
    assert Selection({axis: torch.tensor([2, 3, 6, 7])}).indices(share).tolist() == [2, 3]


def test_importance_is_the_norm_of_all_that_touches_an_element() -> None:
    rows, columns = Axis(2, 1), Axis(3, 1)
    weight = torch.tensor([[1.0, 2.0, 0.0], [3.0, 0.0, 0.0]])
    found = importance_of({"w": (rows, columns)}, {"w": weight})
    torch.testing.assert_close(found[rows], torch.tensor([5 / 7, 9 / 7], dtype=torch.float64).sqrt())
    torch.testing.assert_close(found[columns] ** 2, torch.tensor([30 / 14, 12 / 14, 0], dtype=torch.float64), atol=1e-9, rtol=0)


def test_every_tensor_counts_the_same_whatever_its_scale() -> None:
    axis = Axis(2, 1)
    small, large = torch.tensor([1.0, 3.0]), torch.tensor([3e20, 1e20])
    found = importance_of({"a": (axis,), "b": (axis,)}, {"a": small, "b": large})[axis]
    torch.testing.assert_close(found[0], found[1])


def test_importance_goes_down_to_the_atoms_of_compounds() -> None:
    heads, size, rest = Axis(2, 1), Axis(3, 3), Axis(2, 2)
    merged = Axis(6, 3, "*", (heads, size))
    joined = Axis(8, 5, "+", (merged, rest))
    found = importance_of({"b": (joined,)}, {"b": torch.tensor([1.0, 1, 1, 2, 2, 2, 0, 5])})
    assert found[heads].argmax() == 1
    assert found[size].unique().numel() == 1
    assert found[rest].argmax() == 1
    whole = Axis(6, 3)
    shared = importance_of({"b": (Axis(2, 1, "/", (whole,), divisor=3),)}, {"b": torch.tensor([1.0, 2.0])})[whole]
    torch.testing.assert_close(shared, shared[:2].repeat(3))


def test_tensors_without_information_change_nothing_and_every_importance_is_positive() -> None:
    axis, empty = Axis(3, 2), Axis(0, 0)
    tensors = {
        "zero": torch.zeros(3),
        "nan": torch.tensor([1.0, float("nan"), 1]),
        "inf": torch.tensor([1.0, float("inf"), 1]),
        "e": torch.zeros(0),
    }
    found = importance_of({**dict.fromkeys(tensors, (axis,)), "e": (empty,)}, tensors)
    assert found[axis].unique().numel() == 1
    assert (found[axis] > 0).all()
    assert _drawn(axis, important=found).indices(axis).numel() == 2


def test_atoms_come_once_and_in_order() -> None:
    a, b = Axis(2, 1), Axis(3, 1)
    merged = Axis(6, 1, "*", (b, a))
    assert atoms([a, Axis(8, 2, "+", (merged, a)), b]) == [a, b]
    assert atoms([merged]) == [b, a]
