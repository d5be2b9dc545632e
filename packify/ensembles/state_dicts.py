"""Weights of another implementation of packed layers, by name and shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from packify.core.errors import PackError
from packify.nn.packed_network import PackedNetwork

Mapped = Mapping[str, str] | Callable[[str], str | None]


@torch.inference_mode(False)
def load_weights(packed: PackedNetwork, state_dict: Mapping[str, Tensor], mapping: Mapped | None = None) -> PackedNetwork:
    """Give `packed` the weights of another implementation of the same packed network, such as torch-uncertainty's packed ResNets.

    Tensors are matched by name. Where not every name is known, they are matched in order: both implementations hold the same layers, in
    the order in which they run. A tensor fits if its elements are those of ours in the same order, with axes cut or joined differently:
    a packed linear layer of `weight` ``"(m g) o i"`` is our ``"(m g o) i"``, a 1x1 conv may be a linear layer. Members, then subgroups,
    must be outermost, as in all grouped convolutions; where our output is cut into parts later (`LayerWidth.parts`), the rows are
    members, then parts, then subgroups, as if each part were a layer of its own.

    Args:
        packed: what `packify.pack` gave; its tensors are written to.
        state_dict: the other implementation's, ``model.state_dict()`` or what `torch.load` with ``weights_only=True`` gave.
        mapping: our names to theirs, for those that differ; or a function of their name that gives ours, or None to leave a tensor out.

    Returns:
        `packed`.

    Raises:
        PackError: a tensor is missing, left over, or does not fit: the error has both names and shapes. Then `packed` is as it was.

    Example:
        >>> net = timm.create_model("resnet18", num_classes=10)
        >>> net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()  # the stem for 32 x 32 images
        >>> packed = packify.pack(net, torch.randn(2, 3, 32, 32), alpha=2, num_estimators=4, gamma=2)
        >>> packify.load_weights(packed, torch_uncertainty_packed_resnet18.state_dict())
    """
    own = {name: tensor for name, tensor in packed.state_dict(keep_vars=True).items() if isinstance(tensor, Tensor)}
    pairs = _pairs(list(own), _renamed(state_dict, mapping, list(own)))
    for ours, theirs in pairs.items():
        _require_fit(ours, own[ours], theirs, state_dict[theirs], list(pairs.items()))
    with torch.no_grad():
        for ours, theirs in pairs.items():
            own[ours].copy_(state_dict[theirs].to(own[ours].dtype).reshape(own[ours].shape))
    return packed


def _renamed(state_dict: Any, mapping: Mapped | None, ours: list[str]) -> dict[str, str]:
    """Our names, as far as they are known, to theirs: every tensor of theirs that is to be loaded is a value."""
    if not isinstance(state_dict, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state_dict.values()):
        raise PackError(
            "state_dict",
            found=f"a {type(state_dict).__name__}",
            why="weights are tensors by name",
            fix="pass other_model.state_dict()",
        )
    if mapping is None:
        return {name: name for name in state_dict}
    if callable(mapping):
        names = {theirs: mapping(theirs) for theirs in state_dict}
        return {name: theirs for theirs, name in names.items() if name is not None}
    wrong = [(name, theirs) for name, theirs in mapping.items() if name not in ours or theirs not in state_dict]
    if wrong:
        name, theirs = wrong[0]
        raise PackError(
            "mapping",
            found=f"{name!r}: {theirs!r}",
            why=f"the packed network has no {name!r}" if name not in ours else f"the weights have no {theirs!r}",
            fix="map names of the packed network to names of the weights",
        )
    mapped = set(mapping.values())
    return {**{name: name for name in state_dict if name not in mapped}, **mapping}


def _pairs(ours: list[str], known: Mapping[str, str]) -> dict[str, str]:
    """Our names to theirs: by name if all are known, else those that are left in order."""
    by_name = {name: known[name] for name in ours if name in known}
    if len(by_name) == len(ours) == len(known):
        return by_name
    taken = by_name if _in_order(ours, known, by_name) else {}
    mine = [name for name in ours if name not in taken]
    left = [theirs for name, theirs in known.items() if name not in taken]
    if len(mine) != len(left):
        longer, names = ("the packed network", mine) if len(mine) > len(left) else ("the weights", left)
        raise PackError(
            "state_dict",
            found=f"{len(ours)} tensors in the packed network, {len(known)} in the weights; {longer} has more, "
            f"of those that share no name: {', '.join(names[:3])} ...",
            why="tensors whose names differ are matched in order, one to one",
            fix='pass mapping={"our.name": "their.name", ...}, or a function that gives None for what is to be left out',
        )
    return {**taken, **dict(zip(mine, left, strict=True))}


def _in_order(ours: list[str], known: Mapping[str, str], by_name: Mapping[str, str]) -> bool:
    """Names that both have stand in one order, so that they are the same layers and not others that happen to be called alike."""
    return [name for name in ours if name in by_name] == [name for name in known if name in by_name]


def _require_fit(ours: str, own: Tensor, theirs: str, other: Tensor, pairs: list[tuple[str, str]]) -> None:
    if own.numel() == other.numel() and _cut_alike(tuple(own.shape), tuple(other.shape)) and own.is_complex() == other.is_complex():
        return
    position = [name for name, _ in pairs].index(ours)
    before = f"; before it {pairs[position - 1][1]} was taken for {pairs[position - 1][0]}" if position else ""
    raise PackError(
        f"state_dict: {theirs}",
        found=f"shape {tuple(other.shape)} for {ours} of shape {tuple(own.shape)}{before}",
        why="a tensor fits if its axes, cut or joined, are ours: another alpha, M, gamma or architecture has other shapes",
        fix='pack with the same alpha, num_estimators and gamma, or pass mapping={"our.name": "their.name", ...}',
    )


def _cut_alike(ours: tuple[int, ...], theirs: tuple[int, ...]) -> bool:
    """The axes of one are those of the other with neighbours joined on our leading axis: ``(4, 10, c)`` is ``(40, c)``."""
    mine, other = [size for size in ours if size != 1], [size for size in theirs if size != 1]
    while mine and other and mine[-1] == other[-1]:
        mine.pop()
        other.pop()
    return len(mine) <= 1 or len(other) <= 1
