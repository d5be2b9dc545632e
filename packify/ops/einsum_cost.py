"""Mult-Adds of an einsum, contracted from left to right, two operands at a time, as torch does without opt_einsum.

For example ``"bhid,bhjd->bhij"`` of (2, 4, 9, 16) and (2, 4, 7, 16) is 2 * 4 * 9 * 7 * 16.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Sizes = dict[str, int]
"""Axis name to size, for one operand, without axes of size 1; those behind ``...`` are ``"...0"`` (the last), ``"...1"`` and so on."""


def einsum_mult_adds(equation: str, shapes: Sequence[tuple[int, ...]]) -> int:
    """Mult-Adds of ``torch.einsum(equation, *operands)``; a product that sums over nothing is pointwise and counts 0."""
    terms, output = _parse(equation, shapes)
    path = _chosen_path(equation, shapes) if len(terms) > 2 else None
    total = 0
    for step in range(len(terms) - 1):
        first, second = (0, 1) if path is None else path[step]
        rest = [term for index, term in enumerate(terms) if index not in (first, second)]
        mult_adds, product = _contract(terms[first], terms[second], output.union(*rest))
        total += mult_adds
        # torch puts the product in front, opt_einsum's paths expect it at the end
        terms = [product, *rest] if path is None else [*rest, product]
    return total


def _contract(first: Sizes, second: Sizes, needed: set[str]) -> tuple[int, Sizes]:
    """One pairwise product: its Mult-Adds, and the axes that are left. An axis of one operand that nothing needs is summed beforehand."""
    union = {**first, **second}
    kept = {axis: size for axis, size in union.items() if axis in needed}
    summed = [size for axis, size in union.items() if axis not in needed and axis in first and axis in second]
    return (math.prod(kept.values()) * math.prod(summed) if summed else 0), kept


def _parse(equation: str, shapes: Sequence[tuple[int, ...]]) -> tuple[list[Sizes], set[str]]:
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = [_named(term, shape) for term, shape in zip(left.split(","), shapes, strict=True)]
    hidden = {axis for term in terms for axis in term if axis.startswith("...")}
    if arrow:
        return terms, set(right.replace("...", "")) | (hidden if "..." in right else set())
    letters = left.replace(",", "").replace("...", "")
    return terms, {letter for letter in letters if letters.count(letter) == 1} | hidden


def _named(term: str, shape: tuple[int, ...]) -> Sizes:
    before, dots, after = term.partition("...")
    hidden = len(shape) - len(before) - len(after)
    axes = [*before, *(f"...{i}" for i in reversed(range(hidden))), *after] if dots else list(term)
    return {axis: size for axis, size in zip(axes, shape, strict=True) if size != 1}


def _chosen_path(equation: str, shapes: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]] | None:
    """The order that torch asks opt_einsum for, when it is installed and on."""
    import torch

    backend = torch.backends.opt_einsum
    if not backend.is_available() or not backend.enabled:
        return None
    opt_einsum = backend.get_opt_einsum()
    path: list[tuple[int, ...]] = opt_einsum.contract_path(equation, *shapes, shapes=True, optimize=backend.strategy)[0]
    return path
