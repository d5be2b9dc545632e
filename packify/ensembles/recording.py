"""Where everything starts: a network recorded once, and what can be made of it."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from packify.budgets.cost import Budget, Convention
from packify.budgets.fitting import Fit, fit
from packify.budgets.planning import Planner
from packify.budgets.sweeping import Progress, Sweep, sweep
from packify.capture.arguments import module_types, with_concrete_args
from packify.capture.graphs import RecordedGraphs, record_graphs
from packify.capture.outputs import choose_outputs
from packify.capture.unwrapping import unwrap
from packify.core.collecting import uncollected
from packify.core.errors import SpecError
from packify.core.method_specs import BatchEnsembleSpec, Factors, MaskedAt, MasksemblesSpec, MethodSpec, MimoSpec, Norms, several
from packify.core.spec import Constants, Factor, GammaPolicy, Spec, Unused, whole_number
from packify.ensembles.assembly import assemble
from packify.ensembles.methods.batch_ensemble import BatchEnsemble
from packify.ensembles.methods.costs import MethodBudgets, method_budgets
from packify.ensembles.methods.making import make
from packify.ensembles.methods.masksembles import Masksembles
from packify.ensembles.methods.member import Source
from packify.ensembles.methods.mimo import Mimo
from packify.ensembles.report_notes import unused_rules
from packify.ensembles.requirements import require_packable
from packify.ensembles.starting import MemberSeeds, Start, Weights, fill_members
from packify.execution.defaults import DEEP_STRATEGY
from packify.nn.initialisation import Init
from packify.nn.packed_network import PackedNetwork
from packify.nn.shared_network import SharedNetwork
from packify.ops.rule import Rule
from packify.ops.table import merged, random_operators
from packify.ops.user_rules import wrap_user_rules
from packify.widths.slimming import Slimmer


@uncollected()
@torch.inference_mode(False)
def record(
    model: nn.Module,
    example_inputs: Any,
    *,
    leaves: Sequence[type[nn.Module]] = (),
    concrete_args: Mapping[str, Any] | None = None,
    outputs: Mapping[str, str] | None = None,
    rules: Mapping[Any, Any] | None = None,
) -> Recording:
    """Run `model` once per mode on tensors without data, and keep what it calls; `model` is copied, never run and never changed.

    Args:
        model: the reference, on any device, the meta device too.
        example_inputs: a tensor, a tuple or a dict for ``forward``; shapes and dtypes are read, data is not.
        leaves: module types to keep whole.
        concrete_args: arguments of ``forward`` by name that have this value for good, such as a flag that chooses a branch.
        outputs: by path of an output ``"keep"`` (the default), ``"free"`` (its width follows the members', whose outputs are never
            averaged) or ``"drop"`` (not computed: None is returned in its place).
        rules: operator rules of your own, by function or by operator name.

    Raises:
        SpecError: `leaves` are no module types, `outputs` name none, or `rules` are no rules.
        TraceError: the model cannot be recorded.
    """
    model, own_rules = unwrap(model), wrap_user_rules(rules or {})
    table = merged(own_rules)
    example_inputs = with_concrete_args(model, example_inputs, concrete_args)
    graphs = record_graphs(model, example_inputs, leaves=module_types(leaves), random=random_operators(table))
    choose_outputs(graphs, outputs)
    return Recording(model, example_inputs, graphs, own_rules, table)


class Recording:
    """A recorded network: its graphs, its widths (propagated once), and the ensembles and budgets that can be made of it.

    Attributes:
        model: the reference.
        example_inputs: what it was recorded with.
        graphs: one `torch.fx.Graph` per mode, and what they read.
        rules: the user's own operator rules.
        table: every operator's rule, the user's among them.
    """

    def __init__(
        self, model: nn.Module, example_inputs: Any, graphs: RecordedGraphs, rules: Mapping[Any, Rule], table: Mapping[Any, Rule]
    ) -> None:
        self.model, self.example_inputs, self.graphs, self.rules, self.table = model, example_inputs, graphs, rules, table
        self._planners: dict[tuple[Any, Any], Planner] = {}

    @functools.cached_property
    def slimmer(self) -> Slimmer:
        """The widths of the reference, propagated once; it gives the member of any configuration."""
        return Slimmer(self.graphs, self.table)

    @uncollected()
    @torch.inference_mode(False)
    def pack(
        self,
        *,
        alpha: float,
        num_estimators: int,
        gamma: int = 1,
        gamma_policy: GammaPolicy = "paper",
        min_channels_per_group: int = 64,
        round_to: int = 1,
        unused: Unused = "drop",
        constants: Constants = "follow",
        heads: Factor = "scale",
        groups: Factor = "keep",
        seed: int = 0,
        init: Init = "scheme",
        member_seeds: MemberSeeds = "own",
        weights: Weights = "fresh",
        inputs: str = "shared",
        average: Any = None,
        members_of: tuple[int, int] | None = None,
    ) -> PackedNetwork:
        """PE-(alpha, M, gamma) of the network, with members that are freshly drawn or start from its weights; see `packify.pack`.

        `members_of` is for a part of a larger ensemble: the number of its first member there and the larger M, so that it is drawn alike.

        Raises:
            SpecError: a number is out of range.
            PackError: a node cannot be slimmed or packed.
        """
        spec = Spec(alpha, num_estimators, gamma, gamma_policy, min_channels_per_group, round_to, unused, constants, heads, groups)
        start = Start(weights, whole_number("seed", seed, 0, 2**63), member_seeds, init, members_of)
        require_packable(self.model, self.graphs, self.table)
        try:
            member = self.slimmer.member(spec)
            packed = assemble(member, self.example_inputs, self.model, inputs=inputs, average=average, rules=self.rules)
        except RuntimeError as error:
            if not _TOO_LARGE.search(str(error)):
                raise
            raise _too_large(error, spec) from error
        packed.report.notes += unused_rules(self.rules, self.table, self.graphs)
        fill_members(packed, self.model, member, self.table, start)
        return packed

    def deep_ensemble(self, *, num_estimators: int = 4, seed: int = 0, inputs: str = "shared", average: Any = None) -> PackedNetwork:
        """A Deep Ensemble of the network, see `packify.deep_ensemble`.

        Raises:
            SpecError, PackError: as `packify.deep_ensemble` does.
        """
        members = several(num_estimators)
        packed = self.pack(alpha=members, num_estimators=members, seed=seed, inputs=inputs, average=average)
        packed.strategy = DEEP_STRATEGY
        return packed

    def batch_ensemble(
        self,
        *,
        num_estimators: int = 4,
        norms: Norms = "shared",
        factors: Factors = "normal",
        layers: str | Sequence[str] = (),
        seed: int = 0,
        inputs: str = "shared",
        average: Any = None,
    ) -> BatchEnsemble:
        """A BatchEnsemble of the network, see `packify.batch_ensemble`.

        Raises:
            SpecError, PackError: as `packify.batch_ensemble` does.
        """
        spec = BatchEnsembleSpec(num_estimators, norms, factors, layers)  # type: ignore[arg-type] # one pattern is made a tuple
        return self.method(spec, seed=seed, inputs=inputs, average=average)  # type: ignore[return-value] # the spec is one of these

    def masksembles(
        self,
        *,
        num_estimators: int = 4,
        scale: float = 2.0,
        masked: MaskedAt = "inputs",
        layers: str | Sequence[str] = (),
        seed: int = 0,
        inputs: str = "shared",
        average: Any = None,
    ) -> Masksembles:
        """Masksembles of the network, see `packify.masksembles`.

        Raises:
            SpecError, PackError: as `packify.masksembles` does.
        """
        spec = MasksemblesSpec(num_estimators, scale, masked, layers, seed)  # type: ignore[arg-type] # one pattern is made a tuple
        return self.method(spec, inputs=inputs, average=average)  # type: ignore[return-value] # the spec is one of these

    def mimo(self, *, num_estimators: int = 4, rho: float = 0.5, batch_repetitions: int = 4, seed: int = 0, average: Any = None) -> Mimo:
        """A MIMO network, see `packify.mimo`.

        Raises:
            SpecError, PackError: as `packify.mimo` does.
        """
        spec = MimoSpec(num_estimators, rho, batch_repetitions)
        return self.method(spec, seed=seed, average=average)  # type: ignore[return-value] # the spec is one of these

    @uncollected()
    @torch.inference_mode(False)
    def method(self, spec: MethodSpec, *, seed: int = 0, inputs: str | None = None, average: Any = None) -> SharedNetwork:
        """The network of any method whose members share weights, from its settings.

        Raises:
            SpecError, PackError: as the method does.
        """
        network = make(spec, self._source(), seed=whole_number("seed", seed, 0, 2**63), inputs=inputs, average=average)
        network.report.notes += unused_rules(self.rules, self.table, self.graphs)
        return network

    def method_budgets(
        self,
        *,
        alpha: float,
        num_estimators: int,
        methods: Sequence[MethodSpec] | None = None,
        convention: Convention = "macs",
        dtype: torch.dtype | str | None = None,
        **packed: Any,
    ) -> MethodBudgets:
        """What the paper's ensembles of this network cost, side by side.

        Args:
            alpha, num_estimators: of the packed network; M is that of all methods.
            methods: the settings of those that share weights; by default BatchEnsemble, MIMO and Masksembles as they are by default.
            convention, dtype: as for `packify.budget`.
            packed: further settings of the packed network, as for `packify.budget`.

        Raises:
            SpecError, PackError, BudgetError: as `packify.budget` does.
        """
        specs = [BatchEnsembleSpec(num_estimators), MimoSpec(num_estimators), MasksemblesSpec(num_estimators)]
        found = self.budget(alpha=alpha, num_estimators=num_estimators, convention=convention, dtype=dtype, **packed)
        return method_budgets(self._source(), self.planner(convention, dtype), found, specs if methods is None else methods)

    def _source(self) -> Source:
        require_packable(self.model, self.graphs, self.table)
        return Source(self.model, self.example_inputs, self.graphs, self.rules, self.table)

    def budget(
        self,
        *,
        alpha: float,
        num_estimators: int,
        gamma: int = 1,
        gamma_policy: GammaPolicy = "paper",
        min_channels_per_group: int = 64,
        round_to: int = 1,
        unused: Unused = "drop",
        constants: Constants = "follow",
        heads: Factor = "scale",
        groups: Factor = "keep",
        convention: Convention = "macs",
        dtype: torch.dtype | str | None = None,
    ) -> Budget:
        """What a configuration costs, next to the reference and to a Deep Ensemble; see `packify.budget`.

        Raises:
            SpecError, PackError, BudgetError: as `packify.budget` does.
        """
        spec = Spec(alpha, num_estimators, gamma, gamma_policy, min_channels_per_group, round_to, unused, constants, heads, groups)
        return self.planner(convention, dtype).budget(spec)

    def fit(self, *, convention: Convention = "macs", dtype: torch.dtype | str | None = None, **limits: Any) -> Fit:
        """The configurations with the widest members that meet every limit; the arguments are those of `packify.fit`.

        Raises:
            SpecError, PackError, BudgetError: as `packify.fit` does.
        """
        return fit(lambda: self.planner(convention, dtype), **limits)

    def sweep(
        self,
        *,
        alpha: float | Sequence[float],
        num_estimators: int | Sequence[int],
        gamma: int | Sequence[int] = (1,),
        gamma_policies: Sequence[GammaPolicy] = ("paper",),
        min_channels_per_group: int = 64,
        round_to: int = 1,
        heads: Factor = "scale",
        groups: Factor = "keep",
        convention: Convention = "macs",
        dtype: torch.dtype | str | None = None,
        progress: Progress | None = None,
    ) -> Sweep:
        """The budget of every combination; see `packify.sweep`.

        Raises:
            SpecError, PackError, BudgetError: as `packify.sweep` does.
        """
        return sweep(
            lambda: self.planner(convention, dtype),
            alpha=alpha,
            num_estimators=num_estimators,
            gamma=gamma,
            gamma_policies=gamma_policies,
            min_channels_per_group=min_channels_per_group,
            round_to=round_to,
            heads=heads,
            groups=groups,
            progress=progress,
        )

    def planner(self, convention: Convention = "macs", dtype: torch.dtype | str | None = None) -> Planner:
        """The budgets of this network in one convention and dtype; what was counted once is kept.

        Raises:
            BudgetError: the convention or dtype is unknown.
        """
        key = (convention, str(dtype))
        if key not in self._planners:
            self._planners[key] = Planner(self.graphs, self.slimmer, convention=convention, dtype=dtype)
        return self._planners[key]


# What torch says when sizes or memory are out of reach.
_TOO_LARGE = re.compile("overflow|can't allocate memory|out of memory", re.IGNORECASE)


def _too_large(error: RuntimeError, spec: Spec) -> SpecError:
    return SpecError(
        "alpha",
        found=f"alpha={spec.alpha:g}, M={spec.num_estimators}: {error}".splitlines()[0],
        why="a packed network has about alpha ** 2 / (M * gamma) of the reference's parameters, which is more than fits in memory",
        fix="pass a smaller alpha, or ask packify.budget for the cost",
    )
