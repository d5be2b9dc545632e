"""The masks of Masksembles (Durasov et al., CVPR 2021, section 3): M binary vectors with equally many ones, that overlap by a scale.

Of c channels a mask keeps ``a = int(c / (s (1 - (1 - 1 / s)^M)))``. Masks are drawn on more positions than c and those that no mask uses
are dropped; the number of positions is searched so that exactly c are left.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from packify.core.errors import SpecError
from packify.core.method_specs import MAX_SCALE

MIN_CHANNELS = 10
"""Fewer channels than that get no masks."""
TOO_NARROW = "they would be all alike, or keep next to nothing"
_ROUNDS, _TRIES = 40, 25


def kept_channels(channels: int, members: int, scale: float) -> int:
    """The number of ones in each mask."""
    return max(1, int(channels / (scale * (1 - (1 - 1 / scale) ** members))))


def draw_masks(channels: int, members: int, scale: float, seed: int, name: str) -> Tensor:
    """Masks ``"m c"`` of ones and zeros: `kept_channels` ones in each, and every channel kept by some mask.

    Args:
        channels: c, at least `MIN_CHANNELS`.
        members: M.
        scale: s, from 1 (all masks are full) to 6.
        seed, name: what is drawn depends on these two alone.

    Raises:
        SpecError: there are too few channels, or no masks of that width were found.
    """
    if channels < MIN_CHANNELS:
        raise too_narrow([(name, channels)])
    if not 1 <= scale <= MAX_SCALE:
        raise SpecError("scale", found=repr(scale), why=f"masks have a scale from 1 to {MAX_SCALE:g}", fix="pass scale=2.0")
    ones = kept_channels(channels, members, scale)
    if ones >= channels:
        return torch.ones(members, channels)
    key = hashlib.sha256(f"{seed} {name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "big") >> 1)
    best = _positions_for(channels, members, ones)
    for step in range(_ROUNDS):
        positions = best + (step + 1) // 2 * (1 if step % 2 else -1)  # best, best + 1, best - 1, ...
        for _ in range(_TRIES if positions >= ones else 0):
            found = _drawn(positions, members, ones, generator)
            if found.shape[1] == channels:
                return found
    raise SpecError(
        f"{name}: scale",
        found=f"no {members} masks of {ones} ones on exactly {channels} channels in {_ROUNDS * _TRIES} draws",
        why=f"at scale {scale:g} masks of that width are too rare",
        fix="pass a smaller scale, or leave the layer out: layers='!" + name + "'",
    )


def too_narrow(layers: list[tuple[str, int]], *, alone: bool = False) -> SpecError:
    """The error about layers with too few channels, which the user names, or which are `alone`: all that there are."""
    shown = ", ".join(f"{name} ({channels})" for name, channels in layers[:6])
    more = f" and {len(layers) - 6} more" if len(layers) > 6 else ""
    return SpecError(
        f"masks of {layers[0][0]}",
        found=f"layers of fewer than {MIN_CHANNELS} channels: {shown}{more}",
        why=f"masks on so few channels say nothing: {TOO_NARROW}",
        fix="pass a wider network, or packify.batch_ensemble" if alone else "name other layers: narrow ones stay unmasked by themselves",
    )


def _drawn(positions: int, members: int, ones: int, generator: torch.Generator) -> Tensor:
    """Masks on so many positions, without those that none uses."""
    masks = torch.zeros(members, positions)
    for mask in masks:
        mask[torch.randperm(positions, generator=generator)[:ones]] = 1
    return masks[:, masks.any(0)]


def _positions_for(channels: int, members: int, ones: int) -> int:
    """The number of positions of which `members` masks are expected to use as many as there are channels."""
    low, high = ones, 64 * members * ones
    while low < high:
        middle = (low + high) // 2
        if middle * (1 - (1 - ones / middle) ** members) < channels:
            low = middle + 1
        else:
            high = middle
    return low
