"""The ensemble's logits ``"n k"`` and labels of a calibration set, in bounded memory: what calibrations are fitted on."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from packify.core.errors import DataError, SpecError
from packify.evaluation.batches import Reader
from packify.evaluation.class_task import ClassTask
from packify.evaluation.classes import ensemble_log_probabilities
from packify.evaluation.classification import check_labels
from packify.evaluation.prediction import Network, as_networks, in_eval_mode

_OPTIONS = ("ignore_index", "outputs", "output", "class_axis", "split")


@torch.no_grad()
def calibration_batches(source: Network | Tensor, data: Iterable[Any] | Tensor, options: dict[str, Any]) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits ``"n k"`` in float64 and labels ``"n"``, both on the CPU, batch by batch.

    Args:
        source: a network (packed, single, or a list), or the logits ``"n k"`` themselves.
        data: a loader of inputs and labels, or the labels ``"n"``.
        options: ``ignore_index``, ``outputs``, ``output``, ``class_axis`` and ``split``, as `evaluate` takes them.

    Raises:
        DataError: as `evaluate`; logits and labels that do not fit or are empty.
        SpecError: an option is none of these.
    """
    unknown = sorted(options.keys() - _OPTIONS)
    if unknown:
        raise SpecError(
            f"fit({unknown[0]}=...)",
            found=f"the option {unknown[0]}",
            why=f"the options are {', '.join(_OPTIONS)}",
            fix=f"leave {unknown[0]} out",
        )
    if isinstance(source, Tensor):
        yield _checked(source, data)
        return
    if isinstance(data, Tensor) or not isinstance(source, (nn.Module, list, tuple)):
        raise DataError(
            "calibration",
            found=f"a {type(source).__name__} and a {type(data).__name__}",
            why="it is fitted on a network and a loader, or on logits and labels",
            fix="pass fit(packed, loader) or fit(logits, labels)",
        )
    networks = as_networks(source)
    task = ClassTask(
        output=options.get("output"),
        given=options.get("outputs", "logits"),
        class_axis=options.get("class_axis"),
        ignore_index=options.get("ignore_index"),
    )
    reader = Reader({"": networks}, task, options.get("split"))
    with in_eval_mode(networks):
        for _, piece in reader.read(data, "the calibration data"):
            if piece.labels is not None:
                yield ensemble_log_probabilities(piece.log_p).cpu().double(), piece.labels.cpu().long()


def class_logits(logits: Tensor, axis: int = -1) -> Tensor:
    """`logits` in at least float32 with the classes last, checked.

    Raises:
        DataError: they are no logits, or NaN.
    """
    if not logits.is_floating_point() or not logits.dim() or logits.shape[axis] < 2:
        raise DataError(
            "logits",
            found=f"{logits.dtype} of shape {tuple(logits.shape)}",
            why="they are floating-point numbers of at least two classes",
            fix="pass packed(x) in evaluation mode, with axis=1 for maps",
        )
    values = (logits if logits.dtype == torch.float64 else logits.float()).movedim(axis, -1)
    if bool(values.log_softmax(-1).isnan().any()):
        raise DataError("logits", found="NaN or infinite logits", why="no probabilities follow from them", fix="look for overflow")
    return values


def is_finite_number(value: object) -> bool:
    """Whether a value that was read from a file is a number that a float64 holds; True is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= sys.float_info.max


def _checked(logits: Tensor, labels: Any) -> tuple[Tensor, Tensor]:
    values = class_logits(logits).detach().cpu().double()
    if not isinstance(labels, Tensor) or values.dim() != 2 or labels.shape != values.shape[:1] or not len(labels):
        shape = tuple(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__
        raise DataError(
            "calibration",
            found=f"logits of shape {tuple(logits.shape)} and labels of shape {shape}",
            why='logits are "n k" and labels "n", at least one',
            fix="pass fit(logits, labels), or fit(packed, loader)",
        )
    check_labels(labels, values.shape[1])
    return values, labels.cpu().long()
