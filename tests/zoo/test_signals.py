"""Laws 12 and 15 on the lightest architecture of every family of timm and torchvision."""

from __future__ import annotations

import re

import pytest

from tests.zoo import numeric, signals
from tests.zoo.outcome import Outcome

_FAMILIES = numeric.installed_representatives()
_CLASSES = "drawn by the number of classes, or with one standard deviation, whatever the width"
_STAR = "products of signals whose variance is below a norm's eps, and biases drawn by a fan-in that outweigh the weights"
_GATE = "the product of two signals, both of layers that are drawn with one standard deviation whatever the width"
_EPS = (
    "behind a depthwise conv, drawn by the fan-out of all channels: the variance is below the norm's eps, so that the norm does not undo it"
)
_DEPTHWISE = "depthwise convs of a stream that layers of one standard deviation whatever the width have made"
_LINEAR = "attention without softmax divides by a sum over the channels of one head"
_UNIT = "the product of queries and keys of length 1, whose elements are larger where there are fewer"
_PLAIN = "without any norm what one draw adds to a stream stays in it, of a few channels"
_TWO = "two layers one after the other, both drawn with one standard deviation whatever the width, with an activation or attention between"
_SCORES = "products of queries and keys, or of states, summed over fewer of them and divided only afterwards or not at all"
_POOLED = "what a mean over all positions leaves: more where each channel is made of fewer others"
_FUNCTIONAL = "products of signals of layers drawn with one standard deviation, whose weights functions are called with"
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
    "timm:pvt_v2_b0": (r"stages\.\d\.blocks\.\d\.mlp\.fc2", _TWO),
    "timm:hiera_tiny_224": (r"blocks\.\d+\.mlp\.fc2", _TWO),
    "timm:poolformer_s12": (r"stages\.\d\.downsample\.conv", _TWO),
    "timm:shvit_s1": (r"stages\.\d\.blocks\.\d\.mixer\.m ", _SCORES),
    "timm:efficientvim_m1": (r"stages\.\d\.blocks\.\d\.mixer ", _SCORES),
    "timm:visformer_tiny": (r"stage\d\.\d\.attn ", _GATE),
    "timm:swin_s3_tiny_224": (r"layers\.\d\.blocks\.\d+\.attn ", _GATE),
    "timm:swinv2_tiny_window16_256": (r"layers\.\d\.blocks\.\d\.attn", _UNIT),
    "timm:naflexvit_base_patch16_gap": (r"blocks\.\d+\.(attn\.proj|mlp\.fc2)", _TWO),
    "timm:deepseek_vit_412m": (r"encoder\.blocks\.\d+\.attn", _TWO),
    "torchvision:swin3d_t": (r"features\.\d\.\d\.attn ", _FUNCTIONAL),
    "torchvision:swin_t": (r"features\.\d\.\d\.attn ", _FUNCTIONAL),
    "torchvision:deeplabv3_mobilenet_v3_large": (r"backbone\.1[3-5]\.block", _EPS),
    "timm:tresnet_m": (r"body\.layer\d\.\d\.se\.fc", _POOLED),
    "timm:csatv2": (r"stages\.\d\.\d+\.(attn\.conv|dwconv)", _DEPTHWISE),
    "timm:inception_next_atto": (r"stages\.\d\.blocks\.\d\.token_mixer\.dwconv", _DEPTHWISE),
    "timm:vgg11": (r"features|pre_logits", _PLAIN),
    "torchvision:raft_small": (r"matmul ", _SCORES),
    "torchvision:maxvit_t": (r"blocks\.\d\.layers\.\d\.layers\.(window|grid)_attention\.attn_layer\.1 ", _GATE),
    "torchvision:vgg11": (r"features", _PLAIN),
    "torchvision:ssd300_vgg16": (r"extra\.[34]|output", _PLAIN),
    "timm:convit_tiny": (r"blocks\.\d+\.attn ", _GATE),
    "timm:cait_xxs24_224": (r"blocks\.\d+\.attn", _GATE),
    "timm:focalnet_tiny_srf": (r"layers\.\d\.blocks\.\d\.modulation\.(h|proj)", _GATE),
    "timm:tnt_s_legacy_patch16_224": (r"blocks\.\d+\.(attn_in|attn_out|mlp_in\.fc2)", _GATE),
    "timm:vitamin_small_224": (r"blocks\.\d+\.mlp\.w", _GATE),
    "timm:sam2_hiera_tiny": (r"blocks\.\d+\.mlp\.fc", _TWO),
    "timm:mvitv2_tiny": (r"stages\.\d\.blocks\.\d\.attn(\.pool_[kv])?", _DEPTHWISE),
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
