"""From members' outputs to members' log-probabilities, with the classes on the last axis, in at least float32."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from packify.core.errors import DataError, SpecError

Given = Literal["logits", "probabilities"]


def default_class_axis(ndim: int) -> int:
    """The axis of the classes in outputs ``"b k"``, ``"b k h w"``; in ``"b n k"`` the last."""
    return 1 if ndim > 3 else ndim - 1


def class_log_probabilities(outputs: Tensor, given: Given = "logits", axis: int | None = None) -> tuple[Tensor, Tensor]:
    """Log-probabilities over classes and logits, both ``"m b ... k"``.

    Args:
        outputs: ``"m b k"`` or ``"m b k ..."``.
        given: whether they are logits (scores of any scale) or probabilities.
        axis: of the classes in one member's output ``"b ..."``; see `default_class_axis`.

    Raises:
        SpecError: `given` or `axis` cannot be.
        DataError: fewer than two classes, or values that are no logits or no probabilities (NaN among them).
    """
    values = _with_classes_last(outputs, axis)
    if values.shape[-1] < 2:
        raise DataError(
            "class logits",
            found=f"outputs of shape {tuple(outputs.shape)}, one class",
            why="a softmax over one class is 1 whatever the network says",
            fix='pass kind="multilabel" for a single sigmoid, kind="regression" for a number',
        )
    if checked_given(given) == "logits":
        log_p = values.log_softmax(-1)
    else:
        sums = values.sum(-1)
        if bool((values < 0).any()) or bool(((sums - 1).abs() > _tolerance(outputs)).any()):
            raise _no_probabilities(f"values from {values.min().item():g} with sums from {sums.min().item():g} to {sums.max().item():g}")
        log_p = (values / sums[..., None]).log()
        values = log_p
    _refuse_nan(log_p)
    return log_p, values


def label_log_probabilities(outputs: Tensor, given: Given = "logits") -> tuple[Tensor, Tensor]:
    """Per label, the log-probabilities of its absence and presence, ``"m b ... 2"``, and its logit, ``"m b ..."``.

    Args:
        outputs: ``"m b ..."``, each number a label of its own.
        given: whether they are logits (before a sigmoid) or probabilities.

    Raises:
        SpecError: `given` is unknown.
        DataError: values that are no logits or no probabilities (NaN among them).
    """
    values = _checked(outputs, 2, '"m b k"')
    if checked_given(given) == "logits":
        log_p = torch.stack((F.logsigmoid(-values), F.logsigmoid(values)), -1)
    else:
        if bool(((values < 0) | (values > 1)).any()):
            raise _no_probabilities(f"values from {values.min().item():g} to {values.max().item():g}")
        log_p = torch.stack((torch.log1p(-values), values.log()), -1)
        values = log_p[..., 1] - log_p[..., 0]
    _refuse_nan(log_p)
    return log_p, values


def ensemble_log_probabilities(log_p: Tensor) -> Tensor:
    """Log of the mean over members of probabilities, ``"m n k -> n k"``: the ensemble's logits (paper, eq. 5)."""
    return log_p.logsumexp(0) - math.log(len(log_p))


def checked_temperature(value: Any) -> float:
    """`value`, if it is a positive number.

    Raises:
        SpecError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        raise SpecError(
            "temperature", found=repr(value), why="logits are divided by it", fix="pass a positive number, such as TemperatureScaling's"
        )
    return float(value)


def look_like_probabilities(outputs: Tensor, axis: int | None = None) -> bool:
    """Whether outputs ``"m b k ..."`` that are said to be logits come from a softmax: none negative, with sums of 1."""
    values = _with_classes_last(outputs, axis)
    return values.numel() > 0 and bool((values >= 0).all()) and bool(((values.sum(-1) - 1).abs() < _tolerance(outputs)).all())


def checked_given(given: str) -> str:
    """`given`, if it is "logits" or "probabilities"."""
    if given not in get_args(Given):
        raise SpecError(
            f"outputs={given!r}",
            found=repr(given),
            why="a network gives logits or probabilities",
            fix='pass outputs="logits" or outputs="probabilities"',
        )
    return given


def _with_classes_last(outputs: Tensor, axis: Any) -> Tensor:
    values = _checked(outputs, 3, '"m b k" or "m b k h w"')
    ndim = outputs.dim() - 1
    position = default_class_axis(ndim) if axis is None else axis + ndim if isinstance(axis, int) and axis < 0 else axis
    if type(position) is not int or not 1 <= position < ndim:
        raise SpecError(
            f"class_axis={axis}",
            found=f"outputs of shape {tuple(outputs.shape[1:])} per member",
            why="it is an axis of one member's output, behind the batch",
            fix=f"pass a number from 1 to {ndim - 1}",
        )
    return values.movedim(position + 1, -1)


def _checked(outputs: Tensor, least: int, pattern: str) -> Tensor:
    """`outputs` in float32, or float64 where they are."""
    if not outputs.is_floating_point() or outputs.dim() < least or not len(outputs):
        raise DataError(
            "members' outputs",
            found=f"{outputs.dtype} of shape {tuple(outputs.shape)}",
            why=f"they are floating-point numbers {pattern}, members first, at least one",
            fix="pass packed.members(x), or one network's logits as logits[None]",
        )
    return outputs if outputs.dtype == torch.float64 else outputs.float()


def _tolerance(outputs: Tensor) -> float:
    return 1e-3 if outputs.dtype in (torch.float32, torch.float64) else 2e-2


def _refuse_nan(log_p: Tensor) -> None:
    if bool(log_p.isnan().any()):
        bad = log_p.isnan().flatten(2).any(-1).nonzero()[0].tolist()
        raise DataError(
            "members' outputs",
            found=f"NaN or infinite logits, first of member {bad[0]} at sample {bad[1]}",
            why="no probabilities follow from them (an infinite logit, or a row that is -inf throughout, gives none either)",
            fix="look for overflow in half precision, and for a training that diverged",
        )


def _no_probabilities(found: str) -> DataError:
    return DataError(
        'outputs="probabilities"',
        found=found,
        why="probabilities are not negative, and those of the classes sum to 1",
        fix='pass --outputs logits (outputs="logits") for a network that does not end in a softmax or sigmoid',
    )
