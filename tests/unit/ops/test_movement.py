"""Whole axes moved and repeated: members go with the axis that they are on."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from packify.ops import movement
from packify.widths.propagation import Call
from tests.unit.ops.calls import MOVEMENT, real
from tests.unit.ops.single import check_packing, check_widths, dims_of, packed_call, single


@pytest.mark.parametrize("name", MOVEMENT)
def test_packed_calls_are_the_members_calls(name: str) -> None:
    check_packing(*MOVEMENT[name])


@pytest.mark.parametrize("name", MOVEMENT)
def test_any_sizes_that_the_dims_allow_fit(name: str) -> None:
    check_widths(*MOVEMENT[name])


@pytest.mark.parametrize(
    ("op", "arguments"),
    [
        ("permute", {"dims": (2, -3, 1)}),
        ("movedim", {"source": 0, "destination": -1}),
        ("movedim", {"source": (0, 2), "destination": (1, 0)}),
        ("transpose", {"dim0": -1, "dim1": 0}),
        ("mT", {}),
        ("mH", {}),
        ("adjoint", {}),
    ],
)
def test_an_order_of_axes_is_torchs(op: str, arguments: dict[str, Any]) -> None:
    tensor = torch.empty(2, 3, 4)
    made = getattr(tensor, op)
    made = made(**arguments) if callable(made) else made
    assert [tensor.shape[axis] for axis in movement.permutation(op, 3, arguments)] == list(made.shape)


def test_the_transpose_of_everything_and_of_less_than_a_matrix() -> None:
    assert movement.permutation("T", 3, {}) == [2, 1, 0]
    assert [movement.permutation("t", ndim, {}) for ndim in (0, 1, 2)] == [[], [0], [1, 0]]


def test_axes_keep_what_they_are() -> None:
    walk, dims = dims_of(single(torch.permute, real(2, 3, 4), (2, 0, 1)))
    own = walk.parameters.dims["t0"]
    assert [dim.root() for dim in dims] == [own[2].root(), own[0].root(), own[1].root()]
    walk, dims = dims_of(single("expand_as", real(3, 1), real(2, 3, 4)))
    own, other = walk.parameters.dims["t0"], walk.parameters.dims["t1"]
    assert [dim.root() for dim in dims] == [dim.root() for dim in other]
    assert own[0].root() is other[1].root()


def test_a_repeated_axis_is_a_product_with_the_count_outermost() -> None:
    walk, (rows, columns) = dims_of(single("repeat", real(3, 4), (1, 2)))
    own = walk.parameters.dims["t0"]
    assert rows.root() is own[0].root()
    assert [factor.size for factor in columns.factors()] == [2, 4]
    assert columns.factors()[1] is own[1].root()
    _, (_, interleaved) = dims_of(single(torch.repeat_interleave, real(3, 4), 2, 1))
    assert [factor.size for factor in interleaved.factors()] == [4, 2]


@pytest.mark.parametrize(
    ("repeats", "before", "shape", "fitted"),
    [((1, 2), (3, 8), (3, 8), (1, 1)), ((4, 1), (1, 5), (2, 5), (2, 1)), ((3,), (4,), (12,), (3,))],
)
def test_counts_that_make_the_members_shape(repeats: Any, before: Any, shape: Any, fitted: Any) -> None:
    call = Call({"input": torch.empty(before), "repeats": repeats}, shape, {})
    assert ({"repeats": repeats} | movement.refit_repeat(call, repeats))["repeats"] == fitted
    assert torch.empty(before).repeat(fitted).shape == shape


def test_permuting_and_repeating_other_axes_moves_no_members() -> None:
    for function, *args in (("permute", real(2, 3, 4), (2, 0, 1)), ("repeat", real(3, 4), (1, 2)), ("expand", real(3, 1), (2, 3, 4))):
        builder = packed_call(function, (0,), *args)
        assert not builder.relayouts + builder.fallbacks
        assert len([node for node in builder.graph.nodes if node.op != "placeholder"]) == 1
