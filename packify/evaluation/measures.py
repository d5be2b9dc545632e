"""What members' outputs say about each prediction: confidence, entropy, mutual information, disagreement, variance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args, overload

import torch
from torch import Tensor

from packify.core.errors import DataError, SpecError
from packify.evaluation.classes import Given, class_log_probabilities, default_class_axis, label_log_probabilities
from packify.evaluation.moments import member_moments
from packify.evaluation.prediction import Network, as_networks, call_members, in_eval_mode, is_packed, member_outputs, select_output
from packify.training.gaussian import RegressionUncertainty, VarianceForm, gaussian_mixture

Kind = Literal["classification", "multilabel", "regression", "gaussian"]

_KIND_OF_AVERAGE: dict[str, Kind] = {"probs": "classification", "sigmoid": "multilabel", "gaussian": "gaussian", "mean": "regression"}


@dataclass(frozen=True)
class Uncertainty:
    """Measures of a classification, from the members' probabilities p_m; for several labels, of each label.

    All are at least float32 and never NaN; for one member `mutual_information`, `variation_ratio` and `disagreement` are 0.

    Attributes:
        probabilities: the mean of the members' probabilities, ``"b k"``, ``"b k h w"``; for labels, of their presence.
        prediction: the class of the largest mean probability, ``"b"``, ``"b h w"`` (the first of equals); for labels, whether present.
        confidence: the largest mean probability; for labels, that of what is predicted.
        entropy: of the mean probabilities, in nats.
        mutual_information: entropy of the mean - mean of the members' entropies, in nats, from 0 to log M.
        max_logit: the largest of the members' mean logits; for labels, the mean logit.
        variation_ratio: share of members that do not vote for the most voted class.
        disagreement: share of pairs of members that predict different classes.
    """

    probabilities: Tensor
    prediction: Tensor
    confidence: Tensor
    entropy: Tensor
    mutual_information: Tensor
    max_logit: Tensor
    variation_ratio: Tensor
    disagreement: Tensor


@overload
def uncertainty(
    network_or_outputs: Any,
    x: Any = None,
    *,
    kind: Literal["classification", "multilabel"],
    outputs: Given = ...,
    output: str | int | None = ...,
    class_axis: int | None = ...,
    variance: VarianceForm = ...,
) -> Uncertainty: ...
@overload
def uncertainty(
    network_or_outputs: Any,
    x: Any = None,
    *,
    kind: Literal["regression", "gaussian"],
    outputs: Given = ...,
    output: str | int | None = ...,
    class_axis: int | None = ...,
    variance: VarianceForm = ...,
) -> RegressionUncertainty: ...
@overload
def uncertainty(
    network_or_outputs: Any,
    x: Any = None,
    *,
    kind: None = ...,
    outputs: Given = ...,
    output: str | int | None = ...,
    class_axis: int | None = ...,
    variance: VarianceForm = ...,
) -> Any: ...
def uncertainty(
    network_or_outputs: Any,
    x: Any = None,
    *,
    kind: Kind | None = None,
    outputs: Given = "logits",
    output: str | int | None = None,
    class_axis: int | None = None,
    variance: VarianceForm = "positive",
) -> Uncertainty | RegressionUncertainty:
    """How sure an ensemble is of each of its predictions, and why not.

    Args:
        network_or_outputs: a packed network, any other network (one member) or a list of networks (a Deep Ensemble), with `x`; or the
            members' outputs, ``"m b k"``, ``"m b k h w"``.
        x: the input; a tuple of positional or a dict of keyword arguments for several. The network runs in evaluation mode, and has the
            mode it had afterwards; gradients are recorded unless the caller turns them off.
        kind: ``"classification"`` (a softmax over classes), ``"multilabel"`` (a sigmoid per label), ``"regression"`` (numbers, or
            pairs of mean and variance) or ``"gaussian"`` (one tensor of means and then variances, see `gaussian_moments`). By default
            what ``packed.average`` says, and classification for everything else.
        outputs: whether the network gives logits or probabilities.
        output: which output, where the network has several: a key or a position.
        class_axis: of one member's output; by default 1 for ``"b k h w"``, else the last.
        variance: how a Gaussian head gives its variance.

    Returns:
        `Uncertainty` for classes and labels; `RegressionUncertainty` with mean, aleatoric and epistemic variance for numbers.

    Raises:
        SpecError: an option has an unknown value, or a packed network's average says nothing about its kind.
        DataError: outputs of the wrong type or shape, NaN, or an input that is missing.

    Example:
        >>> found = packify.uncertainty(packed, images)
        >>> found.entropy, found.mutual_information  # both "b"
    """
    if kind is not None and kind not in get_args(Kind):
        raise _unknown_kind(f"kind={kind!r}", repr(kind))
    if isinstance(network_or_outputs, torch.nn.Module) or _is_list_of_networks(network_or_outputs):
        values, kind = _predicted(network_or_outputs, x, kind, output)
    elif x is not None:
        raise DataError(
            "uncertainty(outputs, x)",
            found=f"a {type(network_or_outputs).__name__} and an input",
            why="outputs need no input any more",
            fix="pass uncertainty(packed, x), or uncertainty(packed.members(x))",
        )
    else:
        kind = kind or "classification"
        values = network_or_outputs if kind in ("regression", "gaussian") else select_output(network_or_outputs, output)
    if kind == "classification":
        log_p, logits = class_log_probabilities(values, outputs, class_axis)
        return _with_classes_in_place(class_measures(log_p, logits), values, class_axis)
    if kind == "multilabel":
        return label_measures(*label_log_probabilities(values, outputs))
    return _regression(values, kind, variance)


def class_measures(log_p: Tensor, logits: Tensor) -> Uncertainty:
    """The measures from members' log-probabilities and logits, both ``"m b ... k"``; probabilities are ``"b ... k"``."""
    members = len(log_p)
    mean_log_p = log_p.logsumexp(0) - math.log(members)
    probabilities = mean_log_p.exp()
    confidence, prediction = probabilities.max(-1)
    information = torch.zeros_like(confidence)
    for own in log_p if members > 1 else ():
        # the mean over members of KL(p_m || mean) is entropy of the mean - mean of entropies, without the difference of large numbers
        p = own.exp()
        information = information + torch.where(p > 0, p * (own - mean_log_p), 0.0).sum(-1)
    ratio, disagreement = _votes(log_p.argmax(-1), confidence.dtype)
    return Uncertainty(
        probabilities=probabilities,
        prediction=prediction,
        confidence=confidence.clamp(max=1),
        entropy=torch.special.entr(probabilities).sum(-1).clamp(min=0),
        mutual_information=(information / members).clamp(min=0),
        max_logit=logits.mean(0).amax(-1),
        variation_ratio=ratio,
        disagreement=disagreement,
    )


def label_measures(log_p: Tensor, logits: Tensor) -> Uncertainty:
    """The measures of each label, from the log-probabilities of its absence and presence, ``"m b ... 2"``, and its logits ``"m b ..."``."""
    found = class_measures(log_p, log_p)
    return Uncertainty(
        probabilities=found.probabilities[..., 1],
        prediction=found.prediction.bool(),
        confidence=found.confidence,
        entropy=found.entropy,
        mutual_information=found.mutual_information,
        max_logit=logits.mean(0),
        variation_ratio=found.variation_ratio,
        disagreement=found.disagreement,
    )


def _votes(votes: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Variation ratio and disagreement of the members' predictions ``"m ..."``."""
    members = len(votes)
    most = torch.ones_like(votes[0])
    agreeing = torch.zeros_like(votes[0])  # ordered pairs of members of one opinion, each member with itself included
    for vote in votes:
        same = (votes == vote).sum(0)
        most = torch.maximum(most, same)
        agreeing = agreeing + same
    pairs = members * (members - 1)
    ratio = (members - most).to(dtype) / members
    return ratio, (members * members - agreeing).to(dtype) / max(pairs, 1)


def _regression(values: Any, kind: Kind, variance: VarianceForm) -> RegressionUncertainty:
    means, variances = member_moments(values, kind == "gaussian", variance)
    return gaussian_mixture(means, torch.zeros_like(means) if variances is None else variances)


def _predicted(network: Network, x: Any, kind: Kind | None, output: str | int | None) -> tuple[Any, Kind]:
    """Members' outputs and the kind of a network."""
    networks = as_networks(network)
    if x is None:
        raise DataError(
            "uncertainty(network)", found="no input", why="a network is measured on an input", fix="pass uncertainty(packed, x)"
        )
    kind = kind or _kind_of(networks, output)
    with in_eval_mode(networks):
        if kind in ("regression", "gaussian") and output is None:
            return call_members(networks, x), kind
        return member_outputs(networks, x, output), kind


def _kind_of(networks: list[torch.nn.Module], output: str | int | None) -> Kind:
    if not is_packed(networks[0]):
        return "classification"
    average: Any = getattr(networks[0], "average", "probs")
    if isinstance(average, dict):
        average = average.get(output, average)
    if isinstance(average, str) and average in _KIND_OF_AVERAGE:
        return _KIND_OF_AVERAGE[average]
    raise _unknown_kind("uncertainty(packed, x)", f"packed.average is {average!r}")


def _unknown_kind(where: str, found: str) -> SpecError:
    return SpecError(
        where,
        found=found,
        why="what is measured follows from what the outputs mean",
        fix='pass kind="classification", "multilabel", "regression" or "gaussian"',
    )


def _is_list_of_networks(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(isinstance(one, torch.nn.Module) for one in value)


def _with_classes_in_place(found: Uncertainty, outputs: Tensor, axis: int | None) -> Uncertainty:
    """Probabilities with the classes on the axis where the network has them."""
    position = default_class_axis(outputs.dim() - 1) if axis is None else axis
    return Uncertainty(**{**vars(found), "probabilities": found.probabilities.movedim(-1, position)})
