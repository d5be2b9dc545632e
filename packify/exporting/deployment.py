"""A network as it is deployed: tensors in, named tensors out: its prediction, its members and how sure it is."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from packify.core import nested
from packify.core.errors import SpecError
from packify.evaluation.classes import default_class_axis
from packify.evaluation.measures import Uncertainty, class_measures, label_measures
from packify.evaluation.prediction import call_members, is_packed
from packify.nn.averaging import averaged, could_be_logits
from packify.nn.graph_network import GraphNetwork
from packify.training.gaussian import gaussian_mixture

Part = Literal["mean", "members", "uncertainty"]
PARTS: tuple[Part, ...] = get_args(Part)

# Which outputs a part consists of.
_OF_PART: Mapping[str, tuple[str, ...]] = {
    "mean": ("probabilities", "mean", "output"),
    "members": ("members",),
    "uncertainty": (
        *(field.name for field in dataclasses.fields(Uncertainty) if field.name != "probabilities"),
        "aleatoric",
        "epistemic",
    ),
}


class Deployment(nn.Module):
    """Takes the tensors of the network's inputs, ``input0``, ``input1`` ..., and returns named outputs.

    - of logits (``"probs"``, ``"sigmoid"``): ``probabilities``; of numbers: ``mean``; of what is voted on or not averaged: ``output``;
    - ``members``: every member's own output, ``"m b ..."``;
    - ``prediction``, ``confidence``, ``entropy``, ``mutual_information``, ``max_logit``, ``variation_ratio``, ``disagreement`` of
      logits, as `packify.uncertainty` defines them; ``aleatoric`` and ``epistemic`` of numbers.

    Where a network has several outputs, their paths come in front: ``aux_probabilities``. Floating inputs and outputs are float32 (or
    float64 where the network is) whatever the dtype that the network runs in.

    Args:
        network: in evaluation mode.
        example: its inputs, as they are passed.
        parts: which outputs: ``"mean"``, ``"members"``, ``"uncertainty"``.
        average: of each output, for a network that does not say; for a single network by default a softmax where it could be logits.

    Raises:
        SpecError: an unknown part.
    """

    network: nn.Module

    def __init__(self, network: nn.Module, example: Any, parts: Sequence[str] = ("mean", "uncertainty"), average: Any = None) -> None:
        super().__init__()
        unknown = [part for part in parts if part not in PARTS]
        if unknown or not parts or isinstance(parts, str):
            found = repr(unknown[0]) if unknown else repr(parts)
            raise SpecError("outputs", found=found, why=f"they are {', '.join(PARTS)}, in a list", fix='pass outputs=["mean", "members"]')
        self.__dict__["network"] = network
        # What torch.export reads parameters from by name: a plain tree, where no part hides behind an attribute of a packed network.
        self.tree = network.body if isinstance(network, GraphNetwork) else network
        self.parts, self.average = tuple(parts), average
        self.leaves, self.template = nested.flatten(example)
        self.tensors = [index for index, leaf in enumerate(self.leaves) if isinstance(leaf, Tensor)]
        floating = (tensor.dtype for tensor in (*network.parameters(), *network.buffers()) if tensor.is_floating_point())
        self.dtype = next(floating, torch.float32)
        self.input_names = [f"input{position}" for position in range(len(self.tensors))]
        parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in self.input_names]
        self.__dict__["forward"] = _with_signature(self._run, inspect.Signature(parameters))

    def members(self, *tensors: Tensor) -> Any:
        """Every member's outputs, in the structure of the network's own."""
        leaves = list(self.leaves)
        for index, tensor in zip(self.tensors, tensors, strict=True):
            leaves[index] = tensor.to(self.dtype) if tensor.is_floating_point() else tensor
        return call_members([self.network], nested.unflatten(self.template, leaves))

    def _run(self, *tensors: Tensor) -> dict[str, Tensor]:
        return self.named(self.members(*tensors))

    def named(self, members: Any) -> dict[str, Tensor]:
        """The outputs by name, from every member's."""
        leaves, template = nested.flatten(members)
        paths = nested.paths(template)
        tensors = [(path, leaf, index) for index, (path, leaf) in enumerate(zip(paths, leaves, strict=True)) if isinstance(leaf, Tensor)]
        found: dict[str, Tensor] = {}
        for path, values, index in tensors:
            prefix = f"{_identifier(path)}_" if len(tensors) > 1 and path else ""
            for name, value in self._measures(values, self._how(path, index, values)):
                if any(name in _OF_PART[part] for part in self.parts):
                    found[prefix + name] = value
        return found

    def _how(self, path: str, index: int, values: Tensor) -> str:
        average = self.average
        if average is None and is_packed(self.network):
            average = self.network.average
        if isinstance(average, Mapping):
            average = average.get(path)
        elif isinstance(average, (list, tuple)):
            average = average[index] if index < len(average) else None
        if average is not None:
            return str(average)
        if not values.is_floating_point():
            return "vote"
        return "probs" if could_be_logits(values[0], ()) and values.dim() in (3, 5) else "mean"

    def _measures(self, values: Tensor, how: str) -> Iterator[tuple[str, Tensor]]:
        wide = values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
        yield "members", wide
        if how in ("probs", "sigmoid"):
            yield from _of_classes(wide, how)
        elif how in ("mean", "gaussian") and values.is_floating_point():
            yield from _of_numbers(wide, how)
        else:
            yield "output", averaged(wide, how)


def _of_classes(values: Tensor, how: str) -> Iterator[tuple[str, Tensor]]:
    if how == "sigmoid":
        log_p = torch.stack([nn.functional.logsigmoid(-values), nn.functional.logsigmoid(values)], -1)
        yield from vars(label_measures(log_p, values)).items()
        return
    axis = default_class_axis(values.dim() - 1)
    logits = values.movedim(axis + 1, -1)
    found = class_measures(logits.log_softmax(-1), logits)
    yield "probabilities", found.probabilities.movedim(-1, axis)
    yield from ((name, value) for name, value in vars(found).items() if name != "probabilities")


def _of_numbers(values: Tensor, how: str) -> Iterator[tuple[str, Tensor]]:
    if how == "gaussian":
        means, variances = values.chunk(2, default_class_axis(values.dim() - 1) + 1)
        yield from vars(gaussian_mixture(means, variances)).items()
        return
    yield "mean", values.mean(0)
    yield "epistemic", (values - values.mean(0)).square().mean(0)


def _identifier(path: str) -> str:
    return re.sub(r"\W+", "_", path)


def _with_signature(function: Any, signature: inspect.Signature) -> Any:
    def forward(*tensors: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = function(*tensors)
        return found

    forward.__signature__ = signature  # type: ignore[attr-defined]
    return forward
