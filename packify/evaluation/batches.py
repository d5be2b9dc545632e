"""From loaders to what is measured: cutting batches, running networks, telling where something does not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

from packify.core.errors import DataError
from packify.evaluation.tally import EnsembleTally

Progress = Callable[[int, int], None]
"""Called with what is done and what there is to do, in batches; the second is 0 where a loader has no length."""

Split = Callable[[Any], tuple[Any, Tensor | None]]
"""Cuts a loader's batch into inputs and labels."""

_LABELS = ("labels", "label", "targets", "target", "y")
# Members' numbers that are measured at once; larger batches (of pixels) are measured in pieces.
_AT_ONCE = 2**23


class Task(Protocol):
    """What a network's outputs mean."""

    def predict(self, networks: Sequence[nn.Module], inputs: Any) -> Any:
        """The members' outputs for one batch, in the form that `pieces` takes."""

    def pieces(self, outputs: Any, labels: Tensor | None, labelled: bool, first: bool) -> Iterator[Any]:
        """What is measured of one batch, a part of the samples at a time.

        Args:
            outputs: what `predict` gave.
            labels: of the batch; None where there are none.
            labelled: whether they count.
            first: whether this is the loader's first batch.

        Raises:
            DataError: outputs and labels do not fit.
        """

    def tally(self, temperature: float) -> EnsembleTally:
        """Something that counts pieces of one ensemble."""


@dataclass(frozen=True)
class Reader:
    """Runs ensembles over loaders.

    Attributes:
        networks: by name, each ensemble's networks.
        task: what their outputs mean.
        split: cuts a batch; None for the usual batches.
    """

    networks: Mapping[str, Sequence[nn.Module]]
    task: Task
    split: Split | None = None

    def read(
        self, loader: Iterable[Any], where: str, labelled: bool = True, step: Callable[[], None] = lambda: None
    ) -> Iterator[tuple[str, Any]]:
        """Every batch of `loader` as every ensemble sees it: the ensemble's name and a piece of the task's.

        Args:
            loader: a DataLoader or any other iterable of batches.
            where: what to call it in an error.
            labelled: whether batches must have labels.
            step: called after every batch.

        Raises:
            DataError: no batch, a batch without labels, or outputs and labels that do not fit.
        """
        number = -1
        for number, batch in enumerate(_iterated(loader, where)):
            inputs, labels = (self.split or split_batch)(batch)
            if labelled and not isinstance(labels, Tensor):
                raise DataError(
                    f"{where}, batch {number}",
                    found=f"a {type(batch).__name__} without labels",
                    why="predictions are compared with labels",
                    fix="let the loader give (inputs, labels), or pass split=lambda batch: (inputs, labels)",
                )
            for name, networks in self.networks.items():
                outputs = self.task.predict(networks, inputs)
                try:
                    for piece in self.task.pieces(outputs, labels if isinstance(labels, Tensor) else None, labelled, number == 0):
                        yield name, piece
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


def _iterated(loader: Any, where: str) -> Iterator[Any]:
    if isinstance(loader, Dataset) and not isinstance(loader, IterableDataset):
        found = f"the data set {type(loader).__name__}"
    else:
        try:
            return iter(loader)
        except TypeError:
            found = f"a {type(loader).__name__}"
    raise DataError(
        where, found=found, why="it gives no batches", fix="pass torch.utils.data.DataLoader(dataset, batch_size=64), or a list of batches"
    )


def parts_of(samples: int, numbers: int) -> Iterator[slice]:
    """Slices of a batch of which each holds a bounded share of the `numbers` that the members gave."""
    size = max(1, _AT_ONCE * samples // max(numbers, 1))
    for start in range(0, samples, size):
        yield slice(start, start + size)


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
    """Numbers in a list or an array as a tensor; everything else as it is."""
    if hasattr(labels, "__array__") or (isinstance(labels, list) and all(isinstance(label, (int, float)) for label in labels)):
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
