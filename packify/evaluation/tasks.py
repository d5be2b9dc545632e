"""The kind of a network's outputs, and what is measured of each kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from torch import nn

from packify.core.errors import SpecError
from packify.evaluation.batches import Task
from packify.evaluation.class_task import ClassTask
from packify.evaluation.label_task import LabelTask
from packify.evaluation.measures import Kind
from packify.evaluation.prediction import is_packed
from packify.evaluation.regression_task import RegressionTask

# The kinds that an average alone tells: logits are averaged as probabilities by default, and the mean says nothing.
_TOLD: dict[str, Kind] = {"sigmoid": "multilabel", "gaussian": "gaussian"}
# What an option is where it is left out.
_DEFAULTS = {
    "ignore_index": None,
    "num_bins": 15,
    "top_k": None,
    "outputs": "logits",
    "class_axis": None,
    "variance": "positive",
    "temperature": 1.0,
}
_TAKEN: dict[Kind, frozenset[str]] = {
    "classification": frozenset(_DEFAULTS) - {"variance"},
    "multilabel": frozenset(_DEFAULTS) - {"variance", "top_k", "temperature"},
    "regression": frozenset(("variance",)),
    "gaussian": frozenset(("variance",)),
}


def task_of(kind: Kind, *, output: str | int | None, max_scores: int, **options: Any) -> Task:
    """What is measured of outputs of one kind.

    Raises:
        SpecError: there is no such kind, or an option says nothing about it.
    """
    if kind not in get_args(Kind):
        raise SpecError(
            f"kind={kind!r}",
            found=repr(kind),
            why="what is measured follows from what the outputs mean",
            fix='pass kind="classification", "multilabel", "regression" or "gaussian"',
        )
    for name, value in options.items():
        if name not in _TAKEN[kind] and value != _DEFAULTS[name]:
            raise SpecError(
                f"{name}={value!r}", found=f"kind={kind!r}", why="it has no meaning for outputs of that kind", fix=f"leave {name} out"
            )
    if kind in ("regression", "gaussian"):
        return RegressionTask(kind == "gaussian", output, options["variance"], max_scores)
    given, axis, ignored, bins = (options[name] for name in ("outputs", "class_axis", "ignore_index", "num_bins"))
    if kind == "multilabel":
        return LabelTask(output, given, axis, ignored, bins, max_scores)
    return ClassTask(output, given, axis, ignored, bins, options["top_k"], max_scores)


def kind_of(ensembles: Iterable[Sequence[nn.Module]], output: str | int | None) -> Kind:
    """The kind that the packed networks' averages tell; classification where they tell none.

    Raises:
        SpecError: they tell different ones.
    """
    told = {_TOLD.get(_average(network, output)) for networks in ensembles for network in networks if is_packed(network)} - {None}
    if len(told) > 1:
        raise SpecError(
            "compare",
            found=f"packed networks of the kinds {', '.join(sorted(map(str, told)))}",
            why="one table holds the figures of one kind",
            fix="pass kind=..., or compare them apart",
        )
    return told.pop() or "classification" if told else "classification"


def _average(network: nn.Module, output: str | int | None) -> str:
    average = getattr(network, "average", "")
    if isinstance(average, Mapping):
        average = average.get(output, "")
    return average if isinstance(average, str) else ""
