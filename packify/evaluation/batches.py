"""From loaders to members' log-probabilities and labels: cutting batches, running networks, checking what comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from packify.core.errors import DataError
from packify.evaluation.classes import Given, class_log_probabilities, look_like_probabilities
from packify.evaluation.classification import check_labels
from packify.evaluation.prediction import member_outputs

Progress = Callable[[int, int], None]
"""Called with what is done and what there is to do, in batches; the second is 0 where a loader has no length."""

Split = Callable[[Any], tuple[Any, Tensor | None]]
"""Cuts a loader's batch into inputs and labels."""

_LABELS = ("labels", "label", "targets", "target", "y")
# Members' probabilities that are measured at once; larger batches (of pixels) are measured in pieces.
_AT_ONCE = 2**23


@dataclass(frozen=True)
class Piece:
    """Some samples (or pixels) of one batch, as one ensemble sees them.

    Attributes:
        name: of the ensemble.
        log_p: members' log-probabilities, ``"m n k"``.
        logits: members' logits, ``"m n k"``.
        labels: ``"n"``; None where there are none.
    """

    name: str
    log_p: Tensor
    logits: Tensor
    labels: Tensor | None


@dataclass(frozen=True)
class Reader:
    """Runs ensembles over loaders.

    Attributes:
        networks: by name, each ensemble's networks.
        split: cuts a batch; None for the usual batches.
        output: which of a network's outputs.
        given: whether the outputs are logits or probabilities.
        class_axis: of one member's output.
        ignore_index: labels that do not count.
    """

    networks: Mapping[str, Sequence[nn.Module]]
    split: Split | None = None
    output: str | int | None = None
    given: Given = "logits"
    class_axis: int | None = None
    ignore_index: int | None = None

    def read(self, loader: Iterable[Any], where: str, labelled: bool = True, step: Callable[[], None] = lambda: None) -> Iterator[Piece]:
        """Every batch of `loader` as every ensemble sees it, in pieces.

        Args:
            loader: a DataLoader or any other iterable of batches.
            where: what to call it in an error.
            labelled: whether batches must have labels.
            step: called after every batch.

        Raises:
            DataError: no batch, a batch without labels, or outputs and labels that do not fit.
        """
        number = -1
        for number, batch in enumerate(loader):
            inputs, labels = (self.split or split_batch)(batch)
            if labelled and not isinstance(labels, Tensor):
                raise DataError(
                    f"{where}, batch {number}",
                    found=f"a {type(batch).__name__} without labels",
                    why="predictions are compared with labels",
                    fix="let the loader give (inputs, labels), or pass split=lambda batch: (inputs, labels)",
                )
            for name, networks in self.networks.items():
                outputs = member_outputs(networks, inputs, self.output).detach()
                if number == 0 and self.given == "logits" and outputs.dim() > 2 and look_like_probabilities(outputs, self.class_axis):
                    raise DataError(
                        f"{name or 'the network'} on {where}",
                        found="outputs that are not negative and sum to 1",
                        why="they are taken for logits, and a softmax of probabilities is wrong everywhere",
                        fix='pass outputs="probabilities"',
                    )
                try:
                    yield from self._pieces(name, outputs, labels, labelled)
                except DataError as error:
                    place = f"{name or 'the network'} on {where}, batch {number}"
                    raise DataError(f"{place}: {error.where}", found=error.found, why=error.why, fix=error.fix) from error
            step()
        if number < 0:
            raise DataError(
                where,
                found="no batch",
                why="nothing can be measured (an iterator is empty after it was read once)",
                fix="pass a DataLoader or a list of batches, of a data set that is not empty",
            )

    def _pieces(self, name: str, outputs: Tensor, labels: Tensor | None, labelled: bool) -> Iterator[Piece]:
        """Outputs ``"m b k ..."`` of one batch, a few samples at a time, as ``"m n k"``."""
        samples = outputs.shape[1] if outputs.dim() > 1 else 1
        size = max(1, _AT_ONCE * samples // max(outputs.numel(), 1))
        for start in range(0, samples, size):
            part = outputs[:, start : start + size] if outputs.dim() > 1 else outputs
            log_p, logits = class_log_probabilities(part, self.given, self.class_axis)
            own = None
            if isinstance(labels, Tensor):
                own = labels[start : start + size] if labels.dim() else labels
                if own.shape != log_p.shape[1:-1] or len(labels) != samples:
                    if labelled:
                        raise _misfit(outputs, log_p.shape[-1], labels)
                    own = None
            log_p, logits, own = self._counted(log_p.flatten(1, -2), logits.flatten(1, -2), own)
            if labelled and own is not None:
                check_labels(own, log_p.shape[-1])
            if log_p.shape[1]:
                yield Piece(name, log_p, logits, own if labelled else None)

    def _counted(self, log_p: Tensor, logits: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """What is left without the samples whose label does not count."""
        if labels is None:
            return log_p, logits, None
        labels = labels.reshape(-1).to(log_p.device)
        if self.ignore_index is None or labels.is_floating_point():
            return log_p, logits, labels
        counted = labels != self.ignore_index
        return log_p[:, counted], logits[:, counted], labels[counted]


def split_batch(batch: Any) -> tuple[Any, Tensor | None]:
    """Inputs and labels of a batch as loaders usually give it.

    ``(x, y)`` and ``(x1, x2, ..., y)``: the last item is the labels, what comes before it positional arguments. A dict: what is called
    label(s), target(s) or y is the labels, the rest keyword arguments (one alone a positional one). A tensor or ``(x,)``: only inputs.
    """
    if isinstance(batch, Mapping):
        key = next((name for name in _LABELS if name in batch), None)
        rest = {name: value for name, value in batch.items() if name != key}
        inputs = next(iter(rest.values())) if len(rest) == 1 else rest
        return inputs, None if key is None else _as_labels(batch[key])
    if isinstance(batch, (tuple, list)) and len(batch) > 1:
        return batch[0] if len(batch) == 2 else tuple(batch[:-1]), _as_labels(batch[-1])
    if isinstance(batch, (tuple, list)) and len(batch) == 1:
        return batch[0], None
    return batch, None


def _as_labels(labels: Any) -> Any:
    """Whole numbers in a list or an array as a tensor; everything else as it is."""
    if hasattr(labels, "__array__") or (isinstance(labels, list) and all(isinstance(label, int) for label in labels)):
        return torch.as_tensor(labels)
    return labels


def batches_in(*loaders: object) -> int:
    """The number of batches in all loaders together, 0 where one has no length."""
    lengths = []
    for loader in loaders:
        if loader is not None:
            try:
                lengths.append(len(loader) if isinstance(loader, Sized) else 0)
            except TypeError:  # a DataLoader over a stream has a length in name only
                lengths.append(0)
    return sum(lengths) if all(lengths) else 0


def _misfit(outputs: Tensor, classes: int, labels: Tensor) -> DataError:
    return DataError(
        "outputs and labels",
        found=f"outputs of shape {tuple(outputs.shape[1:])} per member, {classes} classes, and labels of shape {tuple(labels.shape)}",
        why='outputs are "b k" for labels "b", or "b k h w" for labels "b h w"',
        fix="pass labels that are class numbers, class_axis where the classes are on another axis, or outputs as large as the labels",
    )
