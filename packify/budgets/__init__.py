"""Counting what a configuration costs before it is built: one budget, a sweep of many, and the search for one that fits."""

from packify.budgets.cost import CONVENTION_TEXT, CONVENTIONS, Budget, Convention, Cost, LayerCost
from packify.budgets.fit import Candidate, Fit, fit
from packify.budgets.limits import Limit, parse_limit
from packify.budgets.plan import Planner, budget
from packify.budgets.plot import check_plot, plot
from packify.budgets.sweep import Sweep, sweep

__all__ = [
    "CONVENTIONS",
    "CONVENTION_TEXT",
    "Budget",
    "Candidate",
    "Convention",
    "Cost",
    "Fit",
    "LayerCost",
    "Limit",
    "Planner",
    "Sweep",
    "budget",
    "check_plot",
    "fit",
    "parse_limit",
    "plot",
    "sweep",
]
