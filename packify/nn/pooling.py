"""The schemes of a network that somebody else built: all tensors of one kind are explained together, as simply as they can be."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from packify.nn.schemes import Distribution, Scheme
from packify.nn.statistics import Facts

# Gains of the schemes in torch.nn.init: variance times fan. 1/3 is torch's default for Linear and Conv.
_GAINS = (1 / 3, 1.0, 2.0, 25 / 9)
_ROLES = ("fan_in", "fan_out", "fan_avg", "fan_out of a group")
# The one scheme that torch's own layers have.
_DEFAULT_GAIN, _DEFAULT_ROLES = 1 / 3, ("fan_in", "its layer's fan_in", "hidden size")
# Errors that a standard deviation may have, in standard errors, and below which no number of elements brings it.
_ERRORS, _LEAST = 4.5, 0.004
# A scheme holds for a kind when it explains this share of it.
_SHARE = 0.6
_FEW_TENSORS = 2


def pooled_schemes(facts: Sequence[Facts]) -> dict[str, Scheme]:
    """A scheme for every tensor by name: those that say all themselves, and one per kind of layer for the others."""
    found = {fact.name: fact.fixed for fact in facts if fact.fixed is not None}
    kinds: dict[str, list[Facts]] = defaultdict(list)
    for fact in facts:
        if fact.fixed is None:
            kinds[fact.kinds[0]].append(fact)
    believed: Counter[Scheme] = Counter()
    for alike in sorted(kinds.values(), key=len, reverse=True):
        others = [scheme for scheme, count in believed.most_common() if count >= _FEW_TENSORS]
        for pool in _by_distribution(alike):
            _explain(pool, 1, len(alike), others, found)
        believed.update(found[fact.name] for fact in alike)
    found.update((fact.name, scheme) for fact in facts if fact.count == 1 and (scheme := _of_its_kind(fact, facts, found)) is not None)
    return found


def _of_its_kind(single: Facts, facts: Sequence[Facts], found: Mapping[str, Scheme]) -> Scheme | None:
    """One number looks like a constant, but may be a draw: as most of its kind are, if it could be one and nobody else holds it."""
    alike = [fact for fact in facts if fact.kinds[0] == single.kinds[0] and fact is not single]
    drawn = [found[fact.name] for fact in alike if fact.fixed is None]
    if (
        single.fixed is None
        or not single.mean
        or not drawn
        or 2 * len(drawn) < len(alike)
        or any(fact.mean == single.mean for fact in alike)
    ):
        return None
    scheme = Counter(drawn).most_common(1)[0][0]
    if scheme.role and scheme.role not in single.sizes:
        return None
    farthest = 3**0.5 if scheme.distribution == "uniform" else _ERRORS
    return scheme if abs(single.mean - scheme.mean) <= farthest * scheme.std_at(single.sizes) else None


def _by_distribution(facts: Sequence[Facts]) -> list[list[Facts]]:
    """Tensors of one distribution together; those too small to tell go with the most."""
    pools: dict[Distribution | None, list[Facts]] = defaultdict(list)
    for fact in facts:
        pools[fact.distribution].append(fact)
    unknown = pools.pop(None, [])
    if not pools:
        return [unknown]
    max(pools.values(), key=len).extend(unknown)
    return list(pools.values())


def _explain(pool: Sequence[Facts], level: int, among: int, believed: Sequence[Scheme], found: dict[str, Scheme]) -> None:
    """Give every tensor of a pool its scheme: one for most of them, and for the rest one per narrower kind.

    Args:
        pool: tensors of one kind and distribution.
        level: of the kind that is tried next.
        among: how many tensors are of the widest kind.
        believed: schemes of kinds with more tensors in the same network.
        found: by name, which is added to.
    """
    rest = list(pool)
    while rest:
        scheme, explained = _best(rest, among, believed)
        if not explained or len(explained) < _SHARE * len(rest):
            break
        found.update((fact.name, scheme) for fact in explained)
        rest = [fact for fact in rest if fact.name not in found]
    if not rest:
        return
    if level >= max(len(fact.kinds) for fact in rest):
        found.update((fact.name, _fixed([fact])) for fact in rest)
        return
    narrower: dict[str, list[Facts]] = defaultdict(list)
    for fact in rest:
        narrower[fact.kinds[min(level, len(fact.kinds) - 1)]].append(fact)
    for alike in narrower.values():
        _explain(alike, level + 1, among, believed, found)


def _best(pool: Sequence[Facts], among: int, believed: Sequence[Scheme]) -> tuple[Scheme, list[Facts]]:
    """The simplest of the schemes that explain the most of a pool."""
    best: tuple[Scheme, list[Facts]] = (_fixed(pool), [])
    for scheme in _candidates(pool, believed):
        explained = [fact for fact in pool if _fits(scheme, fact)]
        seen_once = scheme.role and len(explained) < _FEW_TENSORS and among > _FEW_TENSORS
        if len(explained) > len(best[1]) and not seen_once:
            best = scheme, explained
    return best


def _candidates(pool: Sequence[Facts], believed: Sequence[Scheme]) -> Iterator[Scheme]:
    """Schemes from the simplest on: torch's default, the network's others, a round number, torch.nn.init's gains, any number, any gain."""
    shown = next((fact.distribution for fact in pool if fact.distribution), None)
    distribution: Distribution = shown or "normal"
    roles = list(dict.fromkeys(role for fact in pool for role in fact.sizes))
    if shown in ("uniform", None):
        yield from (Scheme("uniform", gain=_DEFAULT_GAIN, role=role) for role in _DEFAULT_ROLES if role in roles)
    yield from (scheme for scheme in believed if shown in (scheme.distribution, None))
    fixed = _fixed(pool)
    digit = float(f"{fixed.std:.0e}")
    yield Scheme(distribution, fixed.mean, digit)
    if any(_has_fans(fact) for fact in pool):
        yield from (Scheme(distribution, gain=gain, role=role) for role in _ROLES if role in roles for gain in _GAINS)
    yield fixed
    for role in roles:
        sizes = {fact.sizes.get(role, 0.0) for fact in pool}
        if len(sizes) > _FEW_TENSORS and min(sizes) > 0:
            gains = sorted(fact.std**2 * fact.sizes[role] for fact in pool)
            yield Scheme(distribution, gain=gains[len(gains) // 2], role=role)


def _fixed(pool: Sequence[Facts]) -> Scheme:
    """One number for all: the median of the pool, the larger tensors counting for more where two agree."""
    ordered = sorted(pool, key=lambda fact: fact.std)
    middle = ordered[len(ordered) // 2]
    near = [fact for fact in pool if abs(fact.std / middle.std - 1) <= max(_LEAST, _ERRORS * math.hypot(fact.error, middle.error))]
    count = sum(fact.count for fact in near)
    std = math.sqrt(sum(fact.count * fact.std**2 for fact in near) / count)
    mean = sum(fact.count * fact.mean for fact in near) / count
    distribution: Distribution = next((fact.distribution for fact in near if fact.distribution), "normal")
    return Scheme(distribution, mean if abs(mean) > std * max(_ERRORS / math.sqrt(count), 0.02) else 0.0, std)


def _fits(scheme: Scheme, fact: Facts) -> bool:
    sizes = fact.sizes
    if scheme.role and scheme.role not in sizes:
        return False
    if abs(fact.mean - scheme.mean) > _ERRORS * 1.5 * fact.std / math.sqrt(fact.count):
        return False
    return abs(math.log(fact.std / scheme.std_at(sizes))) <= max(_LEAST, _ERRORS * fact.error)


def _has_fans(fact: Facts) -> bool:
    return "fan_in" in fact.sizes
