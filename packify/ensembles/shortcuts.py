"""One-line shortcuts: a network recorded for one question only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from packify.budgets import fitting, sweeping
from packify.budgets.cost import Budget, Convention
from packify.budgets.fitting import Fit
from packify.budgets.sweeping import Progress, Sweep
from packify.core.spec import Constants, Factor, GammaPolicy, Spec, Unused, whole_number
from packify.ensembles.recording import record
from packify.ensembles.starting import MemberSeeds, Start, Weights
from packify.nn.initialisation import Init
from packify.nn.packed_network import PackedNetwork


def pack(
    model: nn.Module,
    example_inputs: Any,
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
    leaves: Sequence[type[nn.Module]] = (),
    concrete_args: Mapping[str, Any] | None = None,
    outputs: Mapping[str, str] | None = None,
    rules: Mapping[Any, Any] | None = None,
) -> PackedNetwork:
    """A Packed-Ensemble of `model`: PE-(alpha, M, gamma), with members that are freshly drawn or start from its weights.

    Args:
        model: the reference, which is not changed; one on the meta device gives a packed network on the meta device.
        example_inputs: a tensor, a tuple or a dict for ``forward``; shapes and dtypes are read, data is not.
        alpha, num_estimators, gamma: the paper's three numbers.
        gamma_policy, min_channels_per_group, round_to, unused, heads, groups: see `Spec`.
        constants: ``"follow"``: numbers that the code computed from a width (a head's ``d ** -0.5``) follow it; ``"keep"``: they stay;
            or one of these words, or the number itself, by the name of a node or module, as the report names them.
        seed: of the members' initial weights.
        init: ``"scheme"`` draws them as the reference's own code would at the member's widths, ``"reset"`` by each layer type's own
            reset. A function ``(name, tensor, member) -> None`` is called with every parameter of every member, drawn by the scheme,
            and may fill it in place.
        member_seeds: ``"own"``: members start different; ``"same"``: all start as member 0 does, so that only their data (``inputs=
            "independent"``) and chance in training make them differ.
        weights: ``"fresh"``: drawn by the scheme that the reference's own weights show; ``"inherit"``: each member starts from its own
            subset of the trained reference's channels, the most important ones with a shuffle of its own; at alpha = M it is a copy.
        inputs: ``"shared"``, or ``"independent"`` where a call in training mode takes ``"(m b) ..."``, a batch per member.
        average: ``"probs"`` for logits, ``"mean"`` for values, ``"none"``, a list or a dict of them by output, or None to choose by
            the output's shape. Whole numbers and booleans are voted on.
        leaves: module types to keep whole.
        concrete_args: arguments of ``forward`` by name that have this value for good, such as a flag that chooses a branch.
        outputs: what becomes of outputs, by path: ``"keep"``, ``"free"`` or ``"drop"``, see `packify.record`.
        rules: operator rules of your own, by function or by operator name.

    Raises:
        SpecError: a number is out of range.
        TraceError: the model cannot be recorded.
        PackError: a node cannot be slimmed or packed.
    """
    # a wrong number is said before any work
    Spec(alpha, num_estimators, gamma, gamma_policy, min_channels_per_group, round_to, unused, constants, heads, groups)
    Start(weights, whole_number("seed", seed, 0, 2**63), member_seeds, init)
    return record(model, example_inputs, leaves=leaves, concrete_args=concrete_args, outputs=outputs, rules=rules).pack(
        alpha=alpha,
        num_estimators=num_estimators,
        gamma=gamma,
        gamma_policy=gamma_policy,
        min_channels_per_group=min_channels_per_group,
        round_to=round_to,
        unused=unused,
        constants=constants,
        heads=heads,
        groups=groups,
        seed=seed,
        init=init,
        member_seeds=member_seeds,
        weights=weights,
        inputs=inputs,
        average=average,
    )


def budget(
    model: nn.Module,
    example_inputs: Any,
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
    leaves: Sequence[type[nn.Module]] = (),
    concrete_args: Mapping[str, Any] | None = None,
    outputs: Mapping[str, str] | None = None,
    rules: Mapping[Any, Any] | None = None,
) -> Budget:
    """What PE-(alpha, M, gamma) of a network would cost, next to the reference and to a Deep Ensemble of M references.

    Nothing is built: all of it is counted on the meta device, from the network's shapes. `model` may be on the meta device itself.

    Args:
        model: the reference; never changed.
        example_inputs: a tensor, tuple or dict for ``forward``; its values are never read.
        convention: ``"macs"`` or ``"torchinfo"``, how Mult-Adds are counted.
        dtype: floating weights and activations are given in bytes of this type; by default, the model's own.
        leaves: module types to keep whole.
        concrete_args: arguments of ``forward`` that have one value for good, as `packify.pack` takes them.
        outputs: what becomes of outputs, as `packify.pack` takes it.
        rules: operator rules of your own, as `packify.pack` takes them.

    Raises:
        SpecError: alpha, M, gamma or a policy cannot be.
        TraceError, PackError: the network cannot be recorded or slimmed.
        BudgetError: the convention or dtype is unknown.
    """
    # a wrong number is said before any work
    Spec(alpha, num_estimators, gamma, gamma_policy, min_channels_per_group, round_to, unused, constants, heads, groups)
    return record(model, example_inputs, leaves=leaves, concrete_args=concrete_args, outputs=outputs, rules=rules).budget(
        alpha=alpha,
        num_estimators=num_estimators,
        gamma=gamma,
        gamma_policy=gamma_policy,
        min_channels_per_group=min_channels_per_group,
        round_to=round_to,
        unused=unused,
        constants=constants,
        heads=heads,
        groups=groups,
        convention=convention,
        dtype=dtype,
    )


def fit(
    model: nn.Module,
    example_inputs: Any,
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
    convention: Convention = "macs",
    dtype: torch.dtype | str | None = None,
    leaves: Sequence[type[nn.Module]] = (),
    concrete_args: Mapping[str, Any] | None = None,
    outputs: Mapping[str, str] | None = None,
    rules: Mapping[Any, Any] | None = None,
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
        heads, groups: see `Spec`.
        progress: called with the combinations of M, gamma and policy done and to do.

    Raises:
        BudgetError: no limit is given, one cannot be read, or the range of alpha is empty.
        TraceError, PackError: the network cannot be recorded or slimmed.
    """
    return fitting.fit(
        lambda: record(model, example_inputs, leaves=leaves, concrete_args=concrete_args, outputs=outputs, rules=rules).planner(
            convention, dtype
        ),
        max_params=max_params,
        max_mult_adds=max_mult_adds,
        max_memory=max_memory,
        max_training_memory=max_training_memory,
        batch_size=batch_size,
        num_estimators=num_estimators,
        gamma=gamma,
        gamma_policies=gamma_policies,
        min_alpha=min_alpha,
        max_alpha=max_alpha,
        step=step,
        min_channels_per_group=min_channels_per_group,
        round_to=round_to,
        heads=heads,
        groups=groups,
        progress=progress,
    )


def sweep(
    model: nn.Module,
    example_inputs: Any,
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
    leaves: Sequence[type[nn.Module]] = (),
    concrete_args: Mapping[str, Any] | None = None,
    outputs: Mapping[str, str] | None = None,
    rules: Mapping[Any, Any] | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """The budget of every combination; the reference is traced once, and each member slimmed once.

    Raises:
        BudgetError: one of the lists is empty.
        SpecError: one of the values cannot be.
        TraceError, PackError: the network cannot be recorded or slimmed.
    """
    return sweeping.sweep(
        lambda: record(model, example_inputs, leaves=leaves, concrete_args=concrete_args, outputs=outputs, rules=rules).planner(
            convention, dtype
        ),
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
