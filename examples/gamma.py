"""Which layers the ``paper`` policy cuts into gamma subgroups, and why it leaves the others whole, for four networks at PE-(2, 4, 2).

    python examples/gamma.py

A layer keeps gamma unless

- it is a first layer: no other layer stands between an input and it;
- it is a last layer: no other layer stands between it and an output;
- it opens a residual branch by reading the stream directly: between it and the value that the shortcut carries there are only
  activations, dropout and copies. A norm in between, or a reshape, keeps gamma: so in a pre-activation block and in a pre-norm
  transformer block every layer does, and in a post-norm one q|k|v and the first layer of the MLP do not;
- it is depthwise, where a group has one channel already;
- its inputs do not make gamma groups of at least 64 channels (`min_channels_per_group`); gamma then goes down by one until they do.

Where the output is cut into parts later, q|k|v or value|gate, gamma cuts each of them.
"""

from __future__ import annotations

import re
from collections import Counter

import timm
import torch

import packify
from packify.core.report import LayerWidth

NETWORKS = ("resnet50", "vit_small_patch16_224", "swin_tiny_patch4_window7_224", "convnext_tiny")
REASONS = {
    "it is a first layer": "first layer",
    "it is a last layer": "last layer",
    "it opens a residual branch by reading the stream directly": "opens a residual branch",
    "it is depthwise": "depthwise",
}


def layers_of(name: str, alpha: float = 2, num_estimators: int = 4, gamma: int = 2) -> list[LayerWidth]:
    """The layers of one member, with the gamma that each got."""
    with torch.device("meta"):
        model = timm.create_model(name)
        packed = packify.pack(model, torch.empty(2, 3, 224, 224), alpha=alpha, num_estimators=num_estimators, gamma=gamma)
    return packed.report.layers


def why(layer: LayerWidth) -> str:
    """In a few words, what became of gamma."""
    if layer.gamma == layer.gamma_wanted:
        return f"gamma {layer.gamma}" + (f", each of {len(layer.parts)} parts" if layer.parts else "")
    return REASONS.get(layer.note, f"{layer.member_in} inputs are too few")


def rows(name: str) -> list[tuple[str, int, str]]:
    """Layers that are called alike, their count, and what became of gamma: numbers of blocks are written as a star."""
    found = Counter((re.sub(r"(?<=blocks\.)\d+|(?<=layer\d\.)\d+", "*", layer.name), why(layer)) for layer in layers_of(name))
    return [(layer, count, reason) for (layer, reason), count in found.items()]


def table(name: str) -> str:
    """The rows of a network as text, below a line that counts them."""
    found = rows(name)
    kept = sum(count for _, count, reason in found if reason.startswith("gamma"))
    lines = [f"{name}: {kept} of {sum(count for _, count, _ in found)} layers keep gamma"]
    width = max(len(layer) for layer, _, _ in found)
    return "\n".join([*lines, *(f"  {layer:{width}}  {count:3}  {reason}" for layer, count, reason in found)])


if __name__ == "__main__":
    print("\n\n".join(map(table, NETWORKS)))
