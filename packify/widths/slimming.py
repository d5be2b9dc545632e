"""Slim: one member of the ensemble, as widths, graphs and a module tree, without a single weight."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from packify.capture.graphs import RecordedGraphs
from packify.core.graph_check import check_graph, graph_checks
from packify.core.report import LayerWidth, Note
from packify.core.spec import Spec
from packify.nn.subgroups import Subgroups
from packify.widths.analysis import WidthAnalysis
from packify.widths.axes import Axis
from packify.widths.groups import scaled_groups
from packify.widths.propagation import HasWidths
from packify.widths.solution import Solution, Solved

_KEPT_MEMBERS = 16


@dataclass
class Member:
    """One member, PE-(alpha, M, gamma)'s subnetwork. Configurations of one ratio share it: nobody changes what it holds.

    Attributes:
        spec: alpha, M and gamma.
        recorded: the reference.
        root: the member's module tree on the meta device, with the reference's names.
        graphs: its graphs by mode; ``node.meta`` has ``val`` (the member's), ``reference`` (the reference's) and ``gamma``.
        constants: tensors of the reference's code, as long as the member's axes are.
        axes: the axes of every tensor of the reference as this member cuts them, by name.
        cut: by weight, how gamma cuts its layer.
        layers, pins, rounded, lowered, numbers, heads, cardinality: for the report.
    """

    spec: Spec
    recorded: RecordedGraphs
    root: nn.Module
    graphs: dict[str, fx.Graph]
    constants: dict[str, torch.Tensor]
    axes: dict[str, tuple[Axis, ...]]
    cut: dict[str, Subgroups]
    layers: list[LayerWidth] = field(default_factory=list)
    pins: list[Note] = field(default_factory=list)
    rounded: list[Note] = field(default_factory=list)
    lowered: list[Note] = field(default_factory=list)
    numbers: list[Note] = field(default_factory=list)
    heads: list[Note] = field(default_factory=list)
    cardinality: list[Note] = field(default_factory=list)

    @property
    def params(self) -> int:
        """Number of parameters."""
        return sum(parameter.numel() for parameter in self.root.parameters())


class Slimmer:
    """The widths of a reference, propagated once; `member` then answers for any spec, in any order.

    Attributes:
        analysis: what all members have in common.
    """

    def __init__(self, recorded: RecordedGraphs, rules: Mapping[Any, HasWidths]) -> None:
        self.recorded, self.rules = recorded, rules
        self.analysis = WidthAnalysis(recorded, rules)
        self._with_groups = {frozenset[int](): self.analysis}
        self._solved: OrderedDict[Hashable, Solved] = OrderedDict()

    def member(self, spec: Spec) -> Member:
        """The member of PE-(alpha, M, gamma); the last ones are kept, so that a budget and a conversion share theirs.

        Raises:
            PackError: the sizes of a node cannot be reconciled.
            SpecError: gamma divides no layer.
        """
        key = spec.of_one_member()
        solved = self._solved.pop(key, None) or Solution(self._analysis(spec), spec).solve()
        self._solved[key] = solved
        while len(self._solved) > _KEPT_MEMBERS:
            self._solved.popitem(last=False)
        if graph_checks.get():
            for graph in solved.graphs.values():
                check_graph(graph, "slimming")
        return Member(spec, self.recorded, **vars(solved))

    def _analysis(self, spec: Spec) -> WidthAnalysis:
        """The widths, where the number of groups is one for some group counts, and not the channels of a group."""
        scaled = scaled_groups(self.analysis.layers.values(), spec)
        if scaled not in self._with_groups:
            self._with_groups[scaled] = WidthAnalysis(self.recorded, self.rules, scaled)
        return self._with_groups[scaled]


def slim(recorded: RecordedGraphs, spec: Spec, rules: Mapping[Any, HasWidths]) -> Member:
    """`Slimmer(recorded, rules).member(spec)`."""
    return Slimmer(recorded, rules).member(spec)
