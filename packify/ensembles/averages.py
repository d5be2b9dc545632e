"""How each output of a packed network is averaged: as the user says, else as logits where something says so, else by the mean.

A softmax average of what is no logits is wrong without a sign of it (four regression outputs, an image, pooled features). So a floating
output of shape ``"b k"``, ``"b n k"`` or ``"b k h w"`` is averaged as probabilities only on evidence: the network says that it has k
classes, or the layer that makes the output is called as classifiers are. Otherwise its mean is taken, with a warning where it could
have been logits.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from packify.capture.binding import arguments
from packify.capture.graphs import RecordedGraphs
from packify.capture.operators import traits_of
from packify.core import nested
from packify.core.errors import AverageWarning, SpecError
from packify.core.report import Note
from packify.nn.averaging import AVERAGES, POOLS, class_axis, could_be_logits, maker

# How networks say their number of classes: of timm, torchvision and home-made ones, of transformers' configs.
_COUNTS = ("num_classes", "num_labels", "n_classes", "nb_classes", "num_class")
# A part of a name that says classes, and one that says something else.
_CLASSIFIER = re.compile(r"(^|_)(fc|heads?|classifiers?|logits?|cls|classify|classification|score|predictions)(_?\d+)?($|_)", re.IGNORECASE)
_OTHER_HEAD = re.compile(
    r"(^|_)(reg|regression|regressor|bbox|box|depth|pose|mu|mean|std|var|logvar|sigma|offset|embed|embedding|proj|values?|critic|quantiles?"
    r"|keypoints?|landmarks?|coords?|coordinates|angles?|flow|disparity|normals)($|_)",
    re.IGNORECASE,
)
_PROBLEMS = {"multi_label_classification": "sigmoid", "regression": "mean", "single_label_classification": "probs"}


@dataclass(frozen=True)
class Averages:
    """One word for each output per mode, why, and what a user should be told."""

    by_mode: dict[str, list[str]]
    notes: list[Note]


def averages_of(
    recorded: RecordedGraphs, graphs: Mapping[str, fx.Graph], model: nn.Module, average: Any, rules: Mapping[Any, Any]
) -> Averages:
    """How the outputs of an ensemble are averaged whose member has these graphs.

    Raises:
        SpecError: `average` names an output that there is not, or a way that is not known.
    """
    paths = {mode: nested.paths(output) for mode, output in recorded.outputs.items()}
    known = {path for mode in paths for path in paths[mode]}
    if isinstance(average, Mapping) and not average.keys() <= known:
        raise _no_average(f"{', '.join(map(repr, average.keys() - known))} among the outputs", f"the outputs are {sorted(known)}")
    if isinstance(average, (list, tuple)) and len(average) != len(paths["eval"]):
        raise _no_average(f"{len(average)} for {len(paths['eval'])} outputs", f"the outputs are {paths['eval']}")
    found = Averages({}, [])
    for mode, graph in graphs.items():
        (output,) = graph.find_nodes(op="output")
        free = output.meta.get("free", ())
        found.by_mode[mode] = [
            "none"
            if index in free
            else _average_of(leaf, path, _asked(average, path, index), model, rules, found.notes if mode == "eval" else [])
            for index, (leaf, path) in enumerate(zip(output.args[0], paths[mode], strict=True))
        ]
    for note in found.notes:
        if note.what.startswith(_UNSETTLED):
            warnings.warn(str(note), AverageWarning, stacklevel=2)
    return found


def _asked(average: Any, path: str, index: int) -> Any:
    if isinstance(average, Mapping):
        return average.get(path)
    if isinstance(average, (list, tuple)):
        return average[index] if index < len(average) else None
    return average


def _average_of(leaf: Any, path: str, asked: Any, model: nn.Module, rules: Mapping[Any, Any], notes: list[Note]) -> str:
    if asked is not None and asked not in AVERAGES:
        raise _no_average(repr(asked), f"outputs are averaged as one of {', '.join(AVERAGES)}")
    if not isinstance(leaf, fx.Node):
        return str(asked or "mean")
    value = leaf.meta["val"]
    if not isinstance(value, Tensor) or value.is_complex():
        return "none" if asked == "none" else "mean"
    if not value.is_floating_point():
        return "none" if asked == "none" else "vote"
    if asked is not None:
        return str(asked)
    made_by = _behind_a_pool(maker(leaf, lambda node: traits_of(rules, node)), model, rules)
    where = f"output {path}".rstrip()
    if not could_be_logits(value, traits_of(rules, made_by)):
        return "mean"
    how, why = _evidence(value, made_by, model)
    elsewhere = _elsewhere(value, leaf, made_by) if how else 0
    if elsewhere:
        settle = f'average="probs" for logits of classes once they are on axis {class_axis(value.dim())}, "mean" for values'
        why = f"the layer {made_by.meta['path']} makes {elsewhere} numbers on another axis than that of classes"
        notes.append(Note(where, made_by.meta["source"], f"{_UNSETTLED} {settle}", why))
    elif how:
        notes.append(Note(where, "", f"averaged by {how!r}", why))
        return how
    elif value.dim() != 3 and made_by.meta["op"] not in POOLS:
        notes.append(Note(where, made_by.meta["source"], f"{_UNSETTLED} {_settle(path)}", "nothing says whether it holds class logits"))
    return "mean"


def _behind_a_pool(made_by: fx.Node, model: nn.Module, rules: Mapping[Any, Any]) -> fx.Node:
    """The conv or linear layer whose numbers are averaged over positions, as a fully convolutional classifier's are; else the same node.

    A network that says that it has no classes pools features.
    """
    if made_by.meta["op"] not in POOLS or any(_is_count(getattr(model, name, None), 0) for name in _COUNTS):
        return made_by
    (pooled, *_) = made_by.all_input_nodes
    layer = maker(pooled, lambda node: traits_of(rules, node))
    return layer if str(layer.meta["op"]).startswith(_LAYERS) else made_by


_LAYERS = ("conv", "linear")
_UNSETTLED = "averaged by the mean; settle it with"


def _settle(path: str) -> str:
    choice = f'average={{{path!r}: "probs"}}' if path else 'average="probs"'
    return f'{choice} for logits of classes ("sigmoid" of labels), "mean" for values'


def _evidence(value: Tensor, made_by: fx.Node, model: nn.Module) -> tuple[str, str]:
    """The way to average that something speaks for, and what does; empty where nothing does."""
    axis = class_axis(value.dim())
    classes = int(value.shape[axis])
    if made_by.meta["op"] == "log_softmax" and value.shape == made_by.meta["val"].shape and _along(made_by) in (axis, axis - value.dim()):
        return "probs", "it is a log_softmax over classes"
    config = getattr(model, "config", None)
    problem = getattr(config, "problem_type", None)
    for owner, name in ((model, type(model).__name__), (config, f"{type(model).__name__}.config")):
        count = next((attribute for attribute in _COUNTS if _is_count(getattr(owner, attribute, None), classes)), None)
        if count is not None:
            return _PROBLEMS.get(str(problem), "probs"), f"{name}.{count} is {classes}"
    parts = str(made_by.meta["path"]).split(".")
    named = next((part for part in reversed(parts) if _CLASSIFIER.search(part)), None)
    if named and not any(_OTHER_HEAD.search(part) for part in parts):
        return "probs", f"its layer {made_by.meta['path']} is called as classifiers are"
    return "", ""


def _along(node: fx.Node) -> Any:
    """The axis that a call works along."""
    return arguments(node).get("dim")


def _elsewhere(value: Tensor, leaf: fx.Node, made_by: fx.Node) -> int:
    """How many numbers the last layer makes for each position, where they are not on the axis of classes: ``"b k n"``, ``"b h w k"``."""
    layer, made = str(made_by.meta["op"]), made_by.meta["val"]
    if not layer.startswith(_LAYERS):
        return 0
    own, axis = (1 if layer.startswith("conv") else made.dim() - 1), class_axis(value.dim())
    size = int(made.shape[own])
    if leaf is made_by:
        return 0 if own == axis else size
    return size if value.shape[axis] != size and size in value.shape[1:] else 0


def _is_count(found: Any, classes: int) -> bool:
    return isinstance(found, int) and not isinstance(found, bool) and found == classes


def _no_average(found: str, why: str) -> SpecError:
    return SpecError("average", found=found, why=why, fix='pass average="probs" for logits, average="mean" for values')
