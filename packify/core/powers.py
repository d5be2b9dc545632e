"""Numbers that code computed from a size: which of them are ``g * n ** e`` of a width n, judged over all that were computed alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

# Two numbers that the same formula gave are equal to rounding in float32.
_EQUAL = 2e-6
# Below this many, powers of a size are numbers that people also write by hand: 0.5 is 4 ** -0.5.
_FEW = 5


@dataclass(frozen=True)
class PowerLaw:
    """``gain * size ** exponent``.

    Attributes:
        role: which size, e.g. ``"fan_in"``.
        exponent: e.
        gain: g.
    """

    role: str
    exponent: float
    gain: float

    def __str__(self) -> str:
        gain = "" if math.isclose(self.gain, 1, rel_tol=_EQUAL) else f"{self.gain:.4g} * "
        return f"{gain}{self.role} ** {self.exponent:g}"


def power_laws(
    values: Sequence[float],
    sizes: Sequence[Mapping[str, float]],
    exponents: Sequence[float],
    gains: Iterable[float] = (1.0,),
) -> list[PowerLaw | None]:
    """The law behind each of several numbers that one line of code computed, or None where there is none.

    A free gain is believed when one gain explains numbers at two sizes or more. A known gain (by default 1 alone) needs a single
    number, unless the same number is also met where the law says another, or it is a likelier power of another size: 0.5 is
    16 ** -0.25, but where there are heads of 4 it is 4 ** -0.5.

    Args:
        values: the numbers; their signs do not matter.
        sizes: for each number the sizes that it may have been computed from, by role, likeliest first.
        exponents: the exponents to try, likeliest first.
        gains: the gains that need no second size.
    """
    found: list[PowerLaw | None] = [None] * len(values)
    known = tuple(gains)
    while True:
        open_items = [index for index, law in enumerate(found) if law is None and values[index] and math.isfinite(values[index])]
        best: list[tuple[int, PowerLaw]] = []
        for role in dict.fromkeys(role for index in open_items for role in sizes[index]):
            for rank, exponent in enumerate(exponents):
                likelier = {index for index in open_items if _is_power(values[index], sizes[index].values(), exponents[:rank])}
                explained = _explained(role, exponent, open_items, values, sizes, known, likelier)
                if len(explained) > len(best):
                    best = explained
        if not best:
            return found
        for index, law in best:
            found[index] = law


def _explained(
    role: str,
    exponent: float,
    items: Sequence[int],
    values: Sequence[float],
    sizes: Sequence[Mapping[str, float]],
    known: Sequence[float],
    likelier: set[int],
) -> list[tuple[int, PowerLaw]]:
    """The numbers that this role and exponent account for; of a known gain none that is `likelier` another power."""
    at = [index for index in items if sizes[index].get(role, 0) > 0]
    gains = {index: abs(values[index]) / sizes[index][role] ** exponent for index in at}
    explained: list[tuple[int, PowerLaw]] = []
    for gain, cluster in _clusters(gains):
        law = PowerLaw(role, exponent, gain)
        distinct = {sizes[index][role] for index in cluster}
        if len(distinct) > 1:
            explained += [(index, law) for index in cluster]
        elif min(distinct) >= _FEW and any(math.isclose(gain, one, rel_tol=_EQUAL) for one in known):
            number = abs(values[cluster[0]])
            elsewhere = [index for index in at if math.isclose(abs(values[index]), number, rel_tol=_EQUAL)]
            if set(elsewhere) <= set(cluster) and not likelier & set(cluster):
                explained += [(index, law) for index in cluster]
    return explained


def _is_power(value: float, sizes: Iterable[float], exponents: Sequence[float]) -> bool:
    powers = (size**exponent for size in sizes if size > 1 for exponent in exponents)
    return any(math.isclose(abs(value), power, rel_tol=_EQUAL) for power in powers)


def _clusters(gains: Mapping[int, float]) -> list[tuple[float, list[int]]]:
    """Items of one gain together."""
    clusters: list[tuple[float, list[int]]] = []
    for index, gain in sorted(gains.items(), key=lambda item: item[1]):
        if clusters and math.isclose(clusters[-1][0], gain, rel_tol=_EQUAL):
            clusters[-1][1].append(index)
        else:
            clusters.append((gain, [index]))
    return clusters
