"""One-line shortcuts to the ensembles whose members share weights: a network recorded for one of them only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from packify.core.method_specs import BatchEnsembleSpec, Factors, MaskedAt, MasksemblesSpec, MimoSpec, Norms, several
from packify.core.spec import whole_number
from packify.ensembles.methods.batch_ensemble import BatchEnsemble
from packify.ensembles.methods.masksembles import Masksembles
from packify.ensembles.methods.mimo import Mimo
from packify.ensembles.recording import record
from packify.nn.packed_network import PackedNetwork


def batch_ensemble(
    model: nn.Module,
    example_inputs: Any,
    *,
    num_estimators: int = 4,
    norms: Norms = "shared",
    factors: Factors = "normal",
    layers: str | Sequence[str] = (),
    seed: int = 0,
    inputs: str = "shared",
    average: Any = None,
    leaves: Sequence[type[nn.Module]] = (),
    concrete_args: Mapping[str, Any] | None = None,
    outputs: Mapping[str, str] | None = None,
    rules: Mapping[Any, Any] | None = None,
) -> BatchEnsemble:
    """A BatchEnsemble of `model` (Wen et al., ICLR 2020): ``y = s_m * W (r_m * x) + b_m`` in every conv and linear, W shared.

    The weights of `model`, trained or not, become W, and its biases those of every member. ``r`` and ``s`` are parameters of their own,
    ``conv1.r`` and ``conv1.s``, ``"m c"``.

    Args:
        model: the reference, which is not changed; one on the meta device gives a network on the meta device.
        example_inputs: a tensor, a tuple or a dict for ``forward``; shapes and dtypes are read, data is not.
        num_estimators: M, at least 2.
        norms: ``"shared"``, or ``"member"`` where every member has norms (parameters and statistics) of its own.
        factors: r and s start as ``"normal"``, N(1, 0.5), or as random ``"signs"``.
        layers: patterns of the names of layers that get factors (``"layer4.*"``), or with a ``!`` of those that get none; all by default.
        seed: of r and s.
        inputs: ``"shared"``: members see the same batch; ``"independent"``: in training mode a batch is M slices, ``"(m b) ..."``.
        average, leaves, concrete_args, outputs, rules: as for `packify.pack`.

    Raises:
        SpecError: a number is out of range, or a pattern matches no layer.
        TraceError: the model cannot be recorded.
        PackError: a node cannot be packed.
    """
    BatchEnsembleSpec(num_estimators, norms, factors, layers)  # type: ignore[arg-type] # a wrong number is said before any work
    whole_number("seed", seed, 0, 2**63)
    recording = record(model, example_inputs, leaves=leaves, concrete_args=concrete_args, outputs=outputs, rules=rules)
    return recording.batch_ensemble(
        num_estimators=num_estimators, norms=norms, factors=factors, layers=layers, seed=seed, inputs=inputs, average=average
    )


def masksembles(
    model: nn.Module,
    example_inputs: Any,
    *,
    num_estimators: int = 4,
    scale: float = 2.0,
    masked: MaskedAt = "inputs",
    layers: str | Sequence[str] = (),
    seed: int = 0,
    inputs: str = "shared",
    average: Any = None,
    leaves: Sequence[type[nn.Module]] = (),
    concrete_args: Mapping[str, Any] | None = None,
    outputs: Mapping[str, str] | None = None,
    rules: Mapping[Any, Any] | None = None,
) -> Masksembles:
    """Masksembles of `model` (Durasov et al., CVPR 2021): a fixed binary mask for each member on what each layer but the first reads.

    The weights of `model`, trained or not, are shared by all members. Masks are buffers (``layer1.0.conv2.mask``, ``"m c"``); nothing is
    rescaled. `extract(m)` is a slim network: what a member's masks leave out is cut.

    Args:
        model: the reference, which is not changed; one on the meta device gives a network on the meta device.
        example_inputs: a tensor, a tuple or a dict for ``forward``; shapes and dtypes are read, data is not.
        num_estimators: M, at least 2.
        scale: s, from 1 (nothing is masked) to 6: each mask keeps about ``1 / (s (1 - (1 - 1 / s)^M))`` of the channels.
        masked: ``"inputs"``: what every conv and linear but the first reads; ``"outputs"``: what every one but the last makes.
        layers: patterns of the names of layers that get masks (``"layer4.*"``), or with a ``!`` of those that get none; all by default.
        seed: of the masks.
        inputs: ``"shared"``: members see the same batch; ``"independent"``: in training mode a batch is M slices, ``"(m b) ..."``.
        average, leaves, concrete_args, outputs, rules: as for `packify.pack`.

    Raises:
        SpecError: a number is out of range, a pattern matches no layer, or a layer has fewer than 10 channels.
        TraceError: the model cannot be recorded.
        PackError: a node cannot be packed.
    """
    MasksemblesSpec(num_estimators, scale, masked, layers, seed)  # type: ignore[arg-type] # a wrong number is said before any work
    recording = record(model, example_inputs, leaves=leaves, concrete_args=concrete_args, outputs=outputs, rules=rules)
    return recording.masksembles(
        num_estimators=num_estimators, scale=scale, masked=masked, layers=layers, seed=seed, inputs=inputs, average=average
    )


def mimo(
    model: nn.Module,
    example_inputs: Any,
    *,
    num_estimators: int = 4,
    rho: float = 0.5,
    batch_repetitions: int = 4,
    seed: int = 0,
    average: Any = None,
    leaves: Sequence[type[nn.Module]] = (),
    concrete_args: Mapping[str, Any] | None = None,
    outputs: Mapping[str, str] | None = None,
    rules: Mapping[Any, Any] | None = None,
) -> Mimo:
    """A MIMO network of `model` (Havasi et al., ICLR 2021): the first layer reads M inputs side by side, the last makes M outputs.

    In training mode a batch is ``"(m b) ..."``, an input for every member, as `packify.mimo_batch` makes it, and the network returns
    ``"(m b) ..."``; in evaluation mode, and in `members`, the batch is an ordinary one that all members read. Members are not separable.

    Args:
        model: the reference, which is not changed; its weights between the first and the last layers are kept.
        example_inputs: a tensor, a tuple or a dict for ``forward``; shapes and dtypes are read, data is not.
        num_estimators: M, at least 2.
        rho, batch_repetitions: of training batches, see `packify.mimo_batch`; kept for ``network.training_batch(x, y)``.
        seed: of the first and last layers.
        average, leaves, concrete_args, outputs, rules: as for `packify.pack`.

    Raises:
        SpecError: a number is out of range.
        TraceError: the model cannot be recorded.
        PackError: its inputs are token ids, or it has no first and last layer.
    """
    MimoSpec(num_estimators, rho, batch_repetitions)  # a wrong number is said before any work
    recording = record(model, example_inputs, leaves=leaves, concrete_args=concrete_args, outputs=outputs, rules=rules)
    return recording.mimo(num_estimators=num_estimators, rho=rho, batch_repetitions=batch_repetitions, seed=seed, average=average)


def deep_ensemble(
    model: nn.Module,
    example_inputs: Any,
    *,
    num_estimators: int = 4,
    seed: int = 0,
    inputs: str = "shared",
    average: Any = None,
    leaves: Sequence[type[nn.Module]] = (),
    concrete_args: Mapping[str, Any] | None = None,
    outputs: Mapping[str, str] | None = None,
    rules: Mapping[Any, Any] | None = None,
) -> PackedNetwork:
    """A Deep Ensemble of `model` (Lakshminarayanan et al., NeurIPS 2017): M whole networks, each drawn as `model`'s own code draws.

    It is the packed network of alpha = M and gamma = 1, so everything that takes packed networks takes it: `packify.part` and `join` too.

    Args:
        model: the reference, which is not changed.
        example_inputs: a tensor, a tuple or a dict for ``forward``; shapes and dtypes are read, data is not.
        num_estimators: M, at least 2.
        seed: of the members' initial weights.
        inputs, average, leaves, concrete_args, outputs, rules: as for `packify.pack`.

    Raises:
        SpecError: a number is out of range.
        TraceError: the model cannot be recorded.
        PackError: a node cannot be packed.
    """
    several(num_estimators)
    recording = record(model, example_inputs, leaves=leaves, concrete_args=concrete_args, outputs=outputs, rules=rules)
    return recording.deep_ensemble(num_estimators=num_estimators, seed=seed, inputs=inputs, average=average)
