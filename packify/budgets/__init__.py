"""Counting what a configuration costs before it is built: one budget, a sweep of many, and the search for one that fits."""

from packify.budgets.cost import CONVENTION_TEXT, CONVENTIONS, Budget, Convention, Cost, LayerCost
from packify.budgets.fitting import Candidate, Fit
from packify.budgets.limits import Limit, parse_limit
from packify.budgets.planning import Planner
from packify.budgets.plots import check_plot, plot
from packify.budgets.sweeping import Sweep

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
    "check_plot",
    "parse_limit",
    "plot",
]
