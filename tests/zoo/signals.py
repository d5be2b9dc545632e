"""Laws 12 and 15 over families: fresh members carry signals as the reference does, and every part is made of every subgroup.

The lightest architecture of each family, on the smallest input that it takes, is recorded once and packed in three ways. A member depends
on alpha / M and gamma alone, so two of PE-(1, 2, gamma) are those of PE-(2, 4, gamma).
"""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

import packify
from packify.laws.signals import FACTOR
from tests.laws.parts import torn_parts
from tests.zoo import numeric
from tests.zoo.architectures import Architecture

SPECS: dict[str, dict[str, Any]] = {
    "half": {"alpha": 1, "num_estimators": 2},
    "gamma": {"alpha": 1, "num_estimators": 2, "gamma": 2, "min_channels_per_group": 1},
    "quarter": {"alpha": 0.5, "num_estimators": 2},
}
DRAWS = 4
_BATCH = 16
_FEW = 8

Place = tuple[str, str, int]
"""Configuration, layer, and which of the layer's operators."""


@dataclass
class Draw:
    """One reference and its members, drawn once.

    Attributes:
        ratios: standard deviations, of members over the reference.
        code: the same as the reference's own code would have it at a member's widths, by how it draws the last layers, where that is not 1.
        looked, torn: pieces of what layers with gamma give, and those that some subgroup does not reach.
    """

    ratios: dict[Place, float] = field(default_factory=dict)
    code: dict[Place, float] = field(default_factory=dict)
    looked: int = 0
    torn: list[str] = field(default_factory=list)

    def is_outside(self, place: Place, ratio: float) -> bool:
        """More than a factor of 2 from the reference, and on the way to what the reference's own code does from that as well."""
        code = self.code.get(place, 1.0)
        return not min(1, code) / FACTOR <= ratio <= max(1, code) * FACTOR


def drawn(one: Architecture, seed: int = 0) -> Draw:
    """Build an architecture, pack it in each way, and compare the signals."""
    torch.manual_seed(seed)
    found = Draw()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a network's own code warns of is no outcome
        model, inputs = numeric.small(one)
        recording = packify.record(model, inputs)
        for name, spec in SPECS.items():
            packed = recording.pack(**spec, seed=seed)
            last = [1.0]
            compared = packify.signal(packed, model, batch=_BATCH, seed=seed)
            for index, layer in enumerate((*compared.layers, *compared.outputs)):
                if "norm" in layer.kind.lower():
                    last = [1.0]
                elif f"{layer.name}.weight" in packed.report.initialised:
                    if _few(packed, model, f"{layer.name}.weight"):
                        continue
                    last = [*last[-1:], _by_its_code(packed, model, f"{layer.name}.weight")]
                place = (name, f"{layer.name} ({layer.kind})", index)
                found.ratios[place], found.code[place] = layer.ratio, math.prod(last)
            if name == "gamma" and seed == 0:
                found.looked, found.torn = torn_parts(packed.extract(0), inputs, torch.float32)
    return found


def _few(packed: packify.PackedNetwork, model: nn.Module, name: str) -> bool:
    """A layer of a few channels, or that reads fewer than the reference's and a few: their standard deviation is that of a few draws."""
    there, here = model.get_parameter(name).shape, packed.get_parameter(name).shape
    outputs = here[0] // packed.num_estimators
    return len(there) > 1 and (outputs < min(_FEW, there[0]) or here[1] < min(_FEW, there[1]))


def _by_its_code(packed: packify.PackedNetwork, model: nn.Module, name: str) -> float:
    """What a layer at a member's widths does to a signal, over what the reference's does, by the scheme that its code draws it by."""
    scheme = packed.report.initialised[name]
    there, here = model.get_parameter(name).shape, packed.get_parameter(name).shape
    if len(there) < 2:
        return 1.0
    inputs, outputs = here[1] / there[1], here[0] / (packed.num_estimators * there[0])
    if "of a group" in scheme:
        return 1.0
    if "fan_out" in scheme:
        return math.sqrt(inputs / outputs)
    if "xavier" in scheme or "fan_avg" in scheme:
        return math.sqrt(inputs * (there[0] + there[1]) / (outputs * there[0] + inputs * there[1]))
    return math.sqrt(inputs) if re.search(r"std[= ]\d", scheme) else 1.0


def outside(one: Architecture, first: Draw) -> dict[Place, float]:
    """What is outside the law in the geometric mean of several draws: one draw of a few numbers says little."""
    ratios = {place: [ratio] for place, ratio in first.ratios.items() if first.is_outside(place, ratio)}
    for seed in range(1, DRAWS if ratios else 1):
        more = drawn(one, seed)
        ratios = {place: [*known, more.ratios[place]] for place, known in ratios.items()}
    means = {place: math.prod(known) ** (1 / len(known)) for place, known in ratios.items()}
    return {place: mean for place, mean in means.items() if first.is_outside(place, mean)}
