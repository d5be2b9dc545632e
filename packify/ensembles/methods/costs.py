"""What each of the paper's ensembles of one network costs, side by side, before any weight is allocated."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx

from packify.budgets.cost import Budget, Convention, Cost
from packify.budgets.measuring import kept_for_backward, measure, network
from packify.budgets.planning import Planner, floating_dtype
from packify.core.errors import PackifyError
from packify.core.method_specs import MethodSpec
from packify.ensembles.methods.making import make
from packify.ensembles.methods.member import Source
from packify.nn.shared_network import SharedNetwork


@dataclass(frozen=True)
class MethodBudgets:
    """The ensembles of one network, side by side. Mult-Adds are those of one prediction of all members for one sample.

    Attributes:
        budget: the reference, the packed network and the Deep Ensemble.
        methods: the networks of the methods that share weights, by the method's name.
        refused: methods that this network cannot have, and why.
    """

    budget: Budget
    methods: Mapping[str, Cost]
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def convention(self) -> Convention:
        """How Mult-Adds are counted."""
        return self.budget.convention

    def networks(self) -> dict[str, Cost]:
        """Every network by name, in the order of the paper's Table 1."""
        shared = {name.replace("-", "_"): cost for name, cost in self.methods.items()}
        return {
            "reference": self.budget.reference,
            **shared,
            "packed": self.budget.packed,
            "deep_ensemble": self.budget.deep_ensemble,
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain, JSON-able values."""
        networks = {name: cost.to_dict() for name, cost in self.networks().items()}
        return {
            "spec": self.budget.spec.to_dict(),
            "convention": self.convention,
            "dtype": self.budget.dtype,
            **networks,
            "refused": dict(self.refused),
        }


def method_budgets(source: Source, planner: Planner, budget: Budget, specs: Iterable[MethodSpec]) -> MethodBudgets:
    """The costs of several methods next to a budget of the same network.

    Args:
        source: the recorded network.
        planner: of its budgets.
        budget: of the packed network and the Deep Ensemble.
        specs: the settings of the methods that share weights.
    """
    costs: dict[str, Cost] = {}
    refused: dict[str, str] = {}
    for spec in specs:
        try:
            costs[spec.method] = method_cost(source, planner, spec)
        except PackifyError as error:
            refused[spec.method] = f"{error.where}: {error.found}"
    return MethodBudgets(budget, costs, refused)


def method_cost(source: Source, planner: Planner, spec: MethodSpec) -> Cost:
    """What the network of a method costs, counted from its tensors and its graphs on the meta device.

    Raises:
        SpecError, PackError: the network cannot have that method.
    """
    nowhere = replace(source, model=source.graphs.root)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # how outputs are averaged is no matter of cost
        made = make(spec, nowhere, average="none")
    dtype = floating_dtype(planner.dtype)
    inference, training = _activations(made, source, planner, dtype)
    parameters, buffers = list(made.parameters()), [buffer for name, buffer in made.named_buffers()]
    return Cost(
        params=sum(parameter.numel() for parameter in parameters),
        buffers=sum(buffer.numel() for buffer in buffers),
        mult_adds=_mult_adds(made, planner),
        weight_bytes=_bytes([*parameters, *buffers], dtype),
        param_bytes=sum(_bytes(parameters, dtype).values()),
        inference_bytes=inference,
        training_bytes=training,
        training_bytes_in_turn=training,  # members share weights: no turns
    )


def _mult_adds(made: SharedNetwork, planner: Planner) -> int:
    """Those of the reference, module by module, M times where the module computes something for every member."""
    graph = made.graphs["eval"]
    often = {node.meta["path"] for node in graph.nodes if node.op.startswith("call") and _runs_for_every_member(node)}
    often |= {str(node.target) for node in graph.nodes if node.op == "call_module" and _runs_for_every_member(node)}
    by_module = planner.reference.mult_adds
    return sum(count * (made.num_estimators if path in often else 1) for path, count in by_module.items())


def _runs_for_every_member(node: fx.Node) -> bool:
    """It makes something of each member's own, or reads the inputs of all members side by side; factors and masks are no layers."""
    if node.meta["op"] in _BESIDE_LAYERS:
        return False
    layouts = [node.meta.get("axis"), *(source.meta.get("axis") for source in node.all_input_nodes if source.op != "get_attr")]
    return any(axis is not None for axis in layouts)


_BESIDE_LAYERS = frozenset(("scale_channels", "shift_channels", "mix_members"))


def _activations(made: SharedNetwork, source: Source, planner: Planner, dtype: torch.dtype | None) -> tuple[int, int]:
    """Bytes of activations of one sample, in inference and for backward; M times the reference's where a graph cannot be measured."""
    batched = source.graphs.batch is not None
    reference = planner.reference.cost
    try:
        evaluation, training = (network(made.body, made.graphs[mode], {}, batched=batched, rules={}) for mode in ("eval", "train"))
        return measure(evaluation, dtype).peak_bytes, kept_for_backward(training, dtype)
    except Exception:  # an operator that refuses tensors without data at this batch size
        members = made.num_estimators
        return members * reference.inference_bytes, members * reference.training_bytes


def _bytes(tensors: Iterable[Tensor], dtype: torch.dtype | None) -> dict[str, int]:
    totals: Counter[str] = Counter()
    for tensor in tensors:
        kind = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
        totals[str(kind).removeprefix("torch.")] += tensor.numel() * kind.itemsize
    return dict(totals)
