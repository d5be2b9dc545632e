"""Every combination of some alphas, Ms and gammas, as a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from packify.budgets.cost import Budget, Cost
from packify.budgets.limits import several
from packify.budgets.planning import Planner
from packify.core.errors import BudgetError
from packify.core.spec import Factor, GammaPolicy, Spec

Progress = Callable[[int, int], None]
"""Called with what is done and what there is to do."""


@dataclass(frozen=True)
class Sweep:
    """Budgets of many configurations of one reference.

    Attributes:
        reference: the cost of the reference.
        deep_ensembles: the cost of a Deep Ensemble for every M of the sweep.
        budgets: one per configuration, in the order alpha, M, gamma, policy.
    """

    reference: Cost
    deep_ensembles: dict[int, Cost]
    budgets: tuple[Budget, ...]

    def rows(self) -> list[dict[str, Any]]:
        """One flat dict per configuration, ready for ``pandas.DataFrame``."""
        return [budget.row() for budget in self.budgets]

    def to_csv(self) -> str:
        """The rows as CSV with a header."""
        rows = self.rows()
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain, JSON-able values."""
        first = self.budgets[0]
        return {
            "convention": first.convention,
            "dtype": first.dtype,
            "reference": self.reference.to_dict(),
            "deep_ensembles": {str(count): cost.to_dict() for count, cost in self.deep_ensembles.items()},
            "rows": self.rows(),
        }


def sweep(
    planner: Callable[[], Planner],
    *,
    alpha: float | Sequence[float],
    num_estimators: int | Sequence[int],
    gamma: int | Sequence[int] = (1,),
    gamma_policies: Sequence[GammaPolicy] = ("paper",),
    min_channels_per_group: int = 64,
    round_to: int = 1,
    heads: Factor = "scale",
    groups: Factor = "keep",
    progress: Progress | None = None,
) -> Sweep:
    """The budget of every combination; the reference is traced once, and each member slimmed once.

    Raises:
        BudgetError: one of the lists is empty.
        SpecError: one of the values cannot be.
        TraceError, PackError: the network cannot be recorded or slimmed.
    """
    alphas, counts, gammas = several("alpha", alpha), several("num_estimators", num_estimators), several("gamma", gamma)
    if not gamma_policies:
        raise BudgetError("gamma_policies", found="no value", why="a sweep needs at least one", fix="leave gamma_policies out")
    specs = list(
        dict.fromkeys(
            Spec(a, m, g, policy if g > 1 else gamma_policies[0], min_channels_per_group, round_to, heads=heads, groups=groups)
            for a in alphas
            for m in counts
            for g in gammas
            for policy in gamma_policies
        )
    )
    plans = planner()
    budgets = []
    for done, spec in enumerate(specs, 1):
        budgets.append(plans.budget(spec))
        if progress is not None:
            progress(done, len(specs))
    ensembles = {count: plans.reference.ensemble(count) for count in sorted(set(counts))}
    return Sweep(plans.reference.cost, ensembles, tuple(budgets))
