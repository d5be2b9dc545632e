"""Operators that take several tensors: one, two or five of them, by position and by name, as a list, a tuple or one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import packify
from tests.laws import checks

Join = Callable[..., Any]

_LISTED: dict[str, Join] = {
    name: getattr(torch, name)
    for name in "cat concat concatenate stack hstack vstack dstack row_stack column_stack block_diag broadcast_tensors".split()
}
_ONE_BY_ONE = {"block_diag", "broadcast_tensors"}


class Joined(nn.Module):
    """``"b f"`` to ``"b k"``: layers, an operator over their outputs, and a layer that sums over what it makes."""

    def __init__(self, join: Callable[[list[Tensor]], Any], count: int, front: bool) -> None:
        super().__init__()
        self.join, self.count, self.front = join, count, front
        self.first = nn.ModuleList([nn.Linear(4, 8) for _ in range(count)])
        self.last = nn.LazyLinear(3)
        self(torch.randn(2, 4))

    def forward(self, x: Tensor) -> Tensor:
        made = self.join([layer(x) for layer in self.first])
        made = sum(made[1:], made[0]) if isinstance(made, (tuple, list)) else made
        if self.front:  # what is joined stands in front of the batch
            made = made.reshape(self.count, x.shape[0], -1).transpose(0, 1)
        return self.last(made.flatten(1))


_IN_FRONT = {"cat", "concat", "concatenate", "stack", "vstack", "row_stack", "block_diag"}


def _check(join: Callable[[list[Tensor]], Any], count: int, front: bool = False) -> None:
    torch.manual_seed(0)
    model, x = Joined(join, count, front), torch.randn(6, 4)
    network = packify.pack(model, x, alpha=1.5, num_estimators=3)
    assert network.members(x).shape == (3, 6, 3)
    network = checks.randomised(network)
    checks.check_equality(network, x.double())
    checks.check_poison(network, x.double())


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("form", ["list", "tuple", "named list", "named tuple"])
@pytest.mark.parametrize("name", [name for name in _LISTED if name not in _ONE_BY_ONE])
def test_a_list_of_tensors(name: str, form: str, count: int) -> None:
    function = _LISTED[name]
    kind = tuple if "tuple" in form else list
    _check(
        (lambda parts: function(tensors=kind(parts))) if "named" in form else (lambda parts: function(kind(parts))),
        count,
        name in _IN_FRONT,
    )


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("name", sorted(_ONE_BY_ONE))
def test_tensors_one_by_one(name: str, count: int) -> None:
    _check(lambda parts: _LISTED[name](*parts), count, name in _IN_FRONT)


@pytest.mark.parametrize("axis", [{"dim": 1}, {"dim": -1}, {"axis": 1}])
@pytest.mark.parametrize("name", ["cat", "concat", "concatenate", "stack"])
def test_the_axis_by_its_names(name: str, axis: dict[str, int]) -> None:
    _check(lambda parts: _LISTED[name](parts, **axis), 2)
    _check(lambda parts: _LISTED[name](tensors=tuple(parts), **axis), 5)
    _check(lambda parts: _LISTED[name](parts, next(iter(axis.values()))), 1)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("listed", [False, True])
def test_grids_and_products_of_vectors(listed: bool, count: int) -> None:
    def grids(parts: list[Tensor]) -> Any:
        vectors = [part.mean(0)[:2] for part in parts]
        made = torch.meshgrid(vectors, indexing="ij") if listed else torch.meshgrid(*vectors, indexing="ij")
        return parts[0] + sum(grid.sum() for grid in made)

    def pairs(parts: list[Tensor]) -> Any:
        return parts[0] + torch.cartesian_prod(*(part.mean(0)[:2] for part in parts)).sum()

    _check(grids, count)
    _check(pairs, count)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("form", ["one by one", "list", "tuple", "sublists"])
def test_einsum(form: str, count: int) -> None:
    equation = ",".join(["bf"] * count) + "->bf"

    def product(parts: list[Tensor]) -> Any:
        if form == "one by one":
            return torch.einsum(equation, *parts)
        if form == "sublists":
            return torch.einsum(*(item for part in parts for item in (part, [0, 1])), [0, 1])
        return torch.einsum(equation, parts if form == "list" else tuple(parts))

    _check(product, count)


def test_vectors_become_columns() -> None:
    _check(lambda parts: parts[0] + torch.column_stack([part.mean(1) for part in parts]).sum(1, keepdim=True), 2)
    _check(lambda parts: parts[0] + torch.dstack([part.mean(1) for part in parts]).flatten(1).sum(), 2)
