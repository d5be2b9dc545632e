"""Laws 12 and 15 on the lightest architecture of every family of timm and torchvision."""

from __future__ import annotations

import re

import pytest

from tests.zoo import numeric, signals
from tests.zoo.architectures import architectures
from tests.zoo.outcome import Outcome, read

_KNOWN = {one.label for one in architectures()}
_FAMILIES = numeric.representatives(row for row in read().values() if row.label in _KNOWN)
_CLASSES = "drawn by the number of classes, or with one standard deviation, whatever the width"
_STAR = "products of signals whose variance is below a norm's eps, and biases drawn by a fan-in that outweigh the weights"
_GATE = "the product of two signals, both of layers that are drawn with one standard deviation whatever the width"
_EPS = (
    "behind a depthwise conv, drawn by the fan-out of all channels: the variance is below the norm's eps, so that the norm does not undo it"
)
_DEPTHWISE = "depthwise convs of a stream that layers of one standard deviation whatever the width have made"
_LINEAR = "attention without softmax divides by a sum over the channels of one head"
_UNIT = "the product of queries and keys of length 1, whose elements are larger where there are fewer"
_PLAIN = "without any norm what one draw adds to a stream stays in it, of a few channels in each subgroup"
# Layers outside the law, by architecture: a pattern of their names, and why. The reference's own code gives the same at a member's widths.
EXCEPTIONS: dict[str, tuple[str, str]] = {
    "timm:test_efficientnet_gn": (r"classifier|output", _CLASSES),
    "timm:starnet_s050": (r"stages\.\d\.\d\.g", _STAR),
    "timm:test_mambaout": (r"stages\.\d\.blocks\.\d\.fc2", _GATE),
    "torchvision:squeezenet1_1": (r"features\.\d+\.", _PLAIN),
    "torchvision:mobilenet_v3_small": (r"features\.\d+\.block\.2\.fc", _EPS),
    "torchvision:lraspp_mobilenet_v3_large": (r"backbone\.1[345]\.block", _EPS),
    "timm:edgenext_xx_small": (r"stages\.\d\.blocks\.\d\.convs", _DEPTHWISE),
    "timm:swiftformer_xs": (r"stages\.\d\.blocks\.\d\.attn\.proj", _UNIT),
    "timm:efficientvit_b0": (r"stages\.\d\.blocks\.\d\.context_module\.main", _LINEAR),
}


@pytest.mark.families
@pytest.mark.parametrize("row", _FAMILIES, ids=lambda row: row.label)
def test_members_of_a_family(row: Outcome) -> None:
    found = signals.drawn(row.architecture)
    assert found.torn == []
    pattern, _ = EXCEPTIONS.get(row.label, ("(?!)", ""))
    left = {place: ratio for place, ratio in signals.outside(row.architecture, found).items() if not re.match(pattern, place[1])}
    assert not left, "\n".join(f"{spec} {name}: {ratio:.3f}" for (spec, name, _), ratio in left.items())
