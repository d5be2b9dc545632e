"""The search for configurations that meet limits: for every M, gamma and policy the largest alpha, widest members first."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from packify.budgets.cost import Budget, Cost
from packify.budgets.limits import Limit, Quantity, parse_limit, several
from packify.budgets.planning import Planner
from packify.budgets.sweeping import Progress
from packify.core.errors import BudgetError, PackError, SpecError
from packify.core.spec import Factor, GammaPolicy, Spec, whole_number


@dataclass(frozen=True)
class Candidate:
    """A configuration that meets every limit.

    Attributes:
        budget: what it costs.
        binding: what stops a larger alpha: quantities whose limit the next one breaks, or ``"max_alpha"``.
    """

    budget: Budget
    binding: tuple[str, ...]

    def row(self) -> dict[str, Any]:
        """One flat dict."""
        return self.budget.row() | {"binding": ", ".join(self.binding)}


@dataclass(frozen=True)
class Fit:
    """What a search found.

    Attributes:
        limits: the limits, in absolute numbers.
        batch_size: the batch that memory is counted for.
        reference: the cost of the reference.
        found: for every M, gamma and policy the largest alpha that fits, widest members first.
        front: those of `found` that no other one beats in member width, M, parameters and Mult-Adds at once.
        binding: when nothing fits, the quantities whose limit no configuration meets (or all, if none meets them together).
        smallest: when nothing fits, the configuration that comes closest.
        skipped: combinations that this network cannot have, with the reason.
    """

    limits: tuple[Limit, ...]
    batch_size: int
    reference: Cost
    found: tuple[Candidate, ...]
    front: tuple[Candidate, ...]
    binding: tuple[str, ...] = ()
    smallest: Budget | None = None
    skipped: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """One flat dict per configuration found, ready for ``pandas.DataFrame``."""
        return [candidate.row() | {"pareto": candidate in self.front} for candidate in self.found]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain, JSON-able values."""
        return {
            "limits": [{"quantity": limit.quantity, "most": limit.most, "text": limit.text} for limit in self.limits],
            "batch_size": self.batch_size,
            "reference": self.reference.to_dict(),
            "found": self.rows(),
            "binding": list(self.binding),
            "smallest": self.smallest.row() if self.smallest else None,
            "skipped": list(self.skipped),
        }


def fit(
    planner: Callable[[], Planner],
    *,
    max_params: str | float | None = None,
    max_mult_adds: str | float | None = None,
    max_memory: str | float | None = None,
    max_training_memory: str | float | None = None,
    batch_size: int = 1,
    num_estimators: int | Sequence[int] = (2, 4, 8),
    gamma: int | Sequence[int] = (1, 2, 4),
    gamma_policies: Sequence[GammaPolicy] = ("paper", "uniform"),
    min_alpha: float = 1.0,
    max_alpha: float | None = None,
    step: float = 0.125,
    min_channels_per_group: int = 64,
    round_to: int = 1,
    heads: Factor = "scale",
    groups: Factor = "keep",
    progress: Progress | None = None,
) -> Fit:
    """The configurations with the widest members that meet every limit.

    At gamma = 1 the parameters are about the reference's when alpha = sqrt(M) (section 3.2 of the paper).

    Args:
        max_params: most parameters: ``"1.0x"`` the reference's, ``"12M"``, or a number.
        max_mult_adds: most Mult-Adds of one sample: ``"1.0x"``, ``"2G"``, or a number.
        max_memory: most bytes in inference, weights and the activations of a batch: ``"1.0x"``, ``"8GB"``, or a number.
        max_training_memory: most bytes in training: weights, gradients, Adam's two moments and the activations kept of a batch.
        batch_size: the batch that memory is counted for.
        min_alpha: the smallest alpha tried.
        max_alpha: the largest alpha tried; by default M, where every member is as wide as the reference.
        step: alphas are multiples of this.
        progress: called with the combinations of M, gamma and policy done and to do.

    Raises:
        BudgetError: no limit is given, one cannot be read, or the range of alpha is empty.
        TraceError, PackError: the network cannot be recorded or slimmed.
    """
    counts = [whole_number("num_estimators", count) for count in several("num_estimators", num_estimators)]
    gammas = sorted({whole_number("gamma", subgroups) for subgroups in several("gamma", gamma)})
    written: dict[Quantity, str | float | None] = {
        "params": max_params,
        "mult_adds": max_mult_adds,
        "memory": max_memory,
        "training_memory": max_training_memory,
    }
    _check(written, gamma_policies, batch_size)
    grids = {count: _grid(min_alpha, count if max_alpha is None else max_alpha, step, count) for count in counts}
    plans = planner()
    reference = plans.reference.cost
    limits = tuple(
        parse_limit(quantity, text, _value(reference, quantity, batch_size)) for quantity, text in written.items() if text is not None
    )
    search = _Search(plans, limits, batch_size)
    combinations = [(m, g, policy) for m, g, policy in product(counts, gammas, gamma_policies) if g > 1 or policy == gamma_policies[0]]
    for done, (count, subgroups, policy) in enumerate(combinations, 1):

        def spec(alpha: float, count: int = count, subgroups: int = subgroups, policy: GammaPolicy = policy) -> Spec:
            return Spec(alpha, count, subgroups, policy, min_channels_per_group, round_to, heads=heads, groups=groups)

        search.widest(grids[count], spec)
        if progress is not None:
            progress(done, len(combinations))
    return search.result(reference)


class _Search:
    """The state of one search."""

    def __init__(self, planner: Planner, limits: tuple[Limit, ...], batch_size: int) -> None:
        self.planner, self.limits, self.batch_size = planner, limits, batch_size
        self.training = any(limit.quantity == "training_memory" for limit in limits)
        reference = planner.reference.cost
        self.room = min(limit.most / max(1, _value(reference, limit.quantity, batch_size)) for limit in limits)
        self.tried: dict[Spec, Budget] = {}
        self.found: list[Candidate] = []
        self.skipped: list[str] = []
        self.error: Exception | None = None

    def widest(self, grid: Sequence[float], spec: Callable[[float], Spec]) -> None:
        """Find the largest alpha of a grid that meets every limit."""
        first = spec(grid[0])
        guess = bisect.bisect(grid, math.sqrt(first.num_estimators * first.gamma * self.room)) - 1
        try:
            # widths that subgroups do not divide make costs jump, so from the largest alpha that can fit on, each is tried
            index = _last(len(grid), guess, lambda i: not self._broken(self.planner.least(spec(grid[i]), training=self.training)))
            while index >= 0 and self._broken(self._budget(spec(grid[index])).packed):
                index -= 1
            if index < 0:
                self._budget(first)
                return
            beyond = index + 1 < len(grid)
            binding = self._broken(self._budget(spec(grid[index + 1])).packed) if beyond else ["max_alpha"]
            self.found.append(Candidate(self.planner.budget(spec(grid[index])), tuple(binding)))
        except (SpecError, PackError) as error:
            self.error = error
            self.skipped.append(f"M = {first.num_estimators}, gamma = {first.gamma} ({first.gamma_policy}): {error.found or error.where}")

    def result(self, reference: Cost) -> Fit:
        """What was found, sorted; or why nothing was."""
        if not self.tried and self.error is not None:
            raise self.error
        found = sorted(_distinct(self.found), key=_widest_first)
        front = tuple(candidate for candidate in found if not any(_beats(other.budget, candidate.budget) for other in found))
        if found:
            return Fit(self.limits, self.batch_size, reference, tuple(found), front, skipped=tuple(self.skipped))
        broken = {spec: self._broken(budget.packed) for spec, budget in self.tried.items()}
        never = [limit.quantity for limit in self.limits if all(limit.quantity in quantities for quantities in broken.values())]
        closest = self.planner.budget(min(self.tried.values(), key=self._excess).spec)
        binding = tuple(never or [limit.quantity for limit in self.limits])
        return Fit(self.limits, self.batch_size, reference, (), (), binding, closest, tuple(self.skipped))

    def _budget(self, spec: Spec) -> Budget:
        if spec not in self.tried:
            self.tried[spec] = self.planner.budget(spec, training=self.training)
        return self.tried[spec]

    def _broken(self, cost: Cost) -> list[str]:
        return [limit.quantity for limit in self.limits if not limit.meets(_value(cost, limit.quantity, self.batch_size))]

    def _excess(self, budget: Budget) -> float:
        return max(_value(budget.packed, limit.quantity, self.batch_size) / limit.most for limit in self.limits)


def _value(cost: Cost, quantity: Quantity, batch_size: int) -> int:
    if quantity == "params":
        return cost.params
    if quantity == "mult_adds":
        return cost.mult_adds
    return cost.memory_bytes(batch_size) if quantity == "memory" else cost.training_memory_bytes(batch_size)


def _last(length: int, guess: int, holds: Callable[[int], bool]) -> int:
    """The last index at which a property holds that holds up to some index and not after it, or -1; looked for around a guess."""
    low, high, reach = -1, length, 1
    probe = min(max(guess, 0), length - 1)
    while high - low > 1:
        if holds(probe):
            low, probe = probe, probe + reach
        else:
            high, probe = probe, probe - reach
        reach *= 2
        if not low < probe < high:
            probe = (low + high) // 2
    return low


_MOST_ALPHAS = 10_000


def _grid(least: float, most: float, step: float, count: int) -> list[float]:
    """Multiples of `step` from `least` to `most`, both included."""
    if not (math.isfinite(step) and step > 0 and math.isfinite(least) and math.isfinite(most) and least > 0):
        found = f"from {least} to {most} by {step}"
        raise BudgetError("alpha", found=found, why="alpha is a positive number", fix="pass min_alpha=1, step=0.125")
    if (most - least) / step > _MOST_ALPHAS:
        found, fix = f"{(most - least) / step:.0f} values of alpha", f"pass step={(most - least) / _MOST_ALPHAS:g} or more"
        raise BudgetError("step", found=found, why=f"at most {_MOST_ALPHAS} are tried; widths are whole numbers of channels", fix=fix)
    if least > most:
        raise BudgetError(
            "the range of alpha",
            found=f"from {least:g} to {most:g} at M = {count}",
            why="it is empty: the smallest alpha is above the largest (by default M)",
            fix=f"pass min_alpha={most:g} or less, or a larger max_alpha",
        )
    inner = (round(index * step, 9) for index in range(math.ceil(least / step - 1e-9), math.floor(most / step + 1e-9) + 1))
    return sorted({float(least), *inner, float(most)})


def _check(written: dict[Quantity, str | float | None], policies: Sequence[str], batch_size: int) -> None:
    if all(text is None for text in written.values()):
        raise BudgetError(
            "limits", found="none", why="without a limit the answer is a Deep Ensemble", fix='pass for example max_params="1.0x"'
        )
    if not policies:
        raise BudgetError("gamma_policies", found="no value", why="a search needs at least one", fix="leave gamma_policies out")
    for quantity, text in written.items():
        if text is not None:
            parse_limit(quantity, text, reference=1.0)  # a unit that is unknown is said before any work
    if batch_size < 1:
        raise BudgetError("batch_size", found=repr(batch_size), why="a batch holds at least one sample", fix="pass batch_size=1")


def _distinct(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Without those whose gamma was lowered to what another one already has."""
    kept: dict[tuple[Any, ...], Candidate] = {}
    for candidate in candidates:
        budget = candidate.budget
        kept.setdefault((budget.spec.alpha, budget.spec.num_estimators, budget.packed.params, budget.packed.mult_adds), candidate)
    return list(kept.values())


def _widest_first(candidate: Candidate) -> tuple[Any, ...]:
    budget = candidate.budget
    return (-budget.spec.ratio, -budget.spec.num_estimators, budget.spec.gamma, budget.packed.params)


def _beats(one: Budget, other: Budget) -> bool:
    def merits(budget: Budget) -> tuple[Any, ...]:
        return (budget.spec.ratio, budget.spec.num_estimators, -budget.packed.params, -budget.packed.mult_adds)

    pairs = list(zip(merits(one), merits(other), strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)
