"""Widths by example: an operator without parameters is run on tensors without data of other sizes, and its output tells how sizes travel.

Every axis whose size may change is made longer, alone or, where the operator then refuses, together with another axis of the same
size. What comes out longer by the same amount is that axis; what changes in another way, or not without an error, is pinned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from packify.core import nested
from packify.widths.dims import Dim, fixed, product
from packify.widths.propagation import Axes, WidthPropagation, tensors

# Operators with no idea of their own here; "*" in the table stands for every other one.
NAMES = """
cdist pdist pairwise_distance cosine_similarity kron diag diagonal diag_embed cross
matrix_exp linalg_matrix_exp matrix_power cov corrcoef trace det slogdet logdet linalg_det linalg_slogdet inverse linalg_inv pinverse
linalg_solve cholesky linalg_cholesky triangular_solve linalg_qr linalg_norm linalg_matrix_norm quantile nanquantile affine_grid
ps_roi_align ps_roi_pool embedding_bag trapezoid rot90 atleast_1d atleast_2d atleast_3d
bucketize searchsorted as_strided multinomial native_dropout max_unpool1d max_unpool2d max_unpool3d
""".split()


def by_example(widths: WidthPropagation, /, **_: Any) -> Any:
    """The width rule of any operator that can run on meta tensors."""
    args, kwargs = widths.arguments(widths.node.args), widths.arguments(widths.node.kwargs)
    probe = _Probe(widths, args, kwargs)
    if not probe.runs({}):
        widths.pin_all((args, kwargs), f"{widths.node.meta['op']} cannot be tried out at other sizes")
        return widths.structure()
    for dim in probe.movable():
        probe.learn(dim)
    probe.decide()
    return probe.dims()


class _Probe:
    def __init__(self, widths: WidthPropagation, args: Any, kwargs: Any) -> None:
        self.widths, self.args, self.kwargs = widths, args, kwargs
        self.base = _shapes(widths.out)
        self.found: dict[tuple[int, int], Dim] = {}
        self.learned: set[Dim] = set()
        self.result: Any = None

    def movable(self) -> list[Dim]:
        """The atoms on the inputs' axes that no one has pinned, once each."""
        dims = [dim.root() for axes in tensors((self.args, self.kwargs)) for dim in axes.dims]
        return list(dict.fromkeys(dim for dim in dims if dim.size > 1 and not dim.is_pinned()))

    def runs(self, sizes: Mapping[Dim, int]) -> bool:
        """Try the operator with other sizes of some axes."""
        self.result = None
        try:
            with torch.no_grad():
                self.result = _shapes(_call(self.widths.node, _resized(self.args, sizes), _resized(self.kwargs, sizes)))
        except Exception:  # whatever it refuses with, it refuses
            return False
        return [len(shape) for shape in self.result] == [len(shape) for shape in self.base]

    def learn(self, dim: Dim) -> None:
        """Find out what becomes of one size, together with those that it must stay equal to."""
        dim = dim.root()
        if dim.is_pinned() or dim in self.learned:
            return
        longer = 2 * dim.size
        if self.runs({dim: longer}) and not self._holds_back(dim):
            self._record(dim, longer)
            return
        partners = [other for other in self.movable() if other is not dim and other.size == dim.size]
        for chosen in [*([other] for other in partners), partners]:
            if chosen and self.runs({dim: longer, **dict.fromkeys(chosen, longer)}):
                for other in chosen:
                    self.widths.equate(dim, other)
                self._record(dim.root(), longer)
                return
        self.widths.pin(dim, f"{self.widths.node.meta['op']} takes no other size")

    def _holds_back(self, dim: Dim) -> bool:
        """A longer axis changes nothing, but a shorter one would: the output is as long as the shortest of several, as a diagonal is."""
        longer = self.result
        if longer != self.base:
            return False
        held = not self.runs({dim: max(dim.size // 2, 1)}) or self.result != self.base
        self.result = longer
        return held

    def _record(self, dim: Dim, longer: int) -> None:
        self.learned.add(dim)
        changed = [
            (index, axis)
            for index, (before, after) in enumerate(zip(self.base, self.result, strict=True))
            for axis in range(len(before))
            if before[axis] != after[axis]
        ]
        for place in changed:
            before, after = self.base[place[0]][place[1]], self.result[place[0]][place[1]]
            if place in self.found or after * dim.size != before * longer:
                self.widths.pin(dim, f"{self.widths.node.meta['op']} makes a size of {before} of it")
                return
        for index, axis in changed:
            size = self.base[index][axis]
            self.found[index, axis] = dim if size == dim.size else product([fixed(size // dim.size), dim])

    def decide(self) -> None:
        """An output axis that comes from weights alone, where they meet features, is a width: the operator is a layer."""
        operands = tensors((self.args, self.kwargs))
        features = {dim.root() for axes in operands if not axes.weight for dim in axes.dims}
        if any(axes.weight for axes in operands) and not all(axes.weight for axes in operands):
            for dim in dict.fromkeys(self.found.values()):
                if dim.root() not in features:
                    self.widths.layer(dim)

    def dims(self) -> Any:
        index = iter(range(len(self.base)))

        def visit(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                number = next(index)
                return [self.found.get((number, axis)) or fixed(size) for axis, size in enumerate(value.shape)]
            return tuple(visit(item) for item in value) if isinstance(value, (tuple, list)) else None

        return visit(self.widths.out)


def _call(node: Any, args: Any, kwargs: Any) -> Any:
    if node.op == "call_method":
        return getattr(args[0], node.target)(*args[1:], **kwargs)
    return node.target(*args, **kwargs)


def _resized(value: Any, sizes: Mapping[Dim, int]) -> Any:
    """Meta tensors for the arguments, some of their axes longer."""

    def resized(leaf: Any) -> Any:
        if not isinstance(leaf, Axes):
            return leaf
        return leaf.val.new_empty([sizes.get(dim.root(), size) for dim, size in zip(leaf.dims, leaf.shape, strict=True)])

    return nested.map_leaves(value, resized)


def _shapes(value: Any) -> list[tuple[int, ...]]:
    return [tuple(leaf.shape) for leaf in nested.leaves(value) if isinstance(leaf, torch.Tensor)]
