"""Which channels of a trained reference a member starts from: one choice for each width, shared by every axis that has it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from packify.widths.axes import Axis

# How much chance there is in a member's choice, next to the logarithm of importance; 1 would draw in proportion to importance.
_SHUFFLE = 0.5


class Selection:
    """A member's channels.

    Args:
        chosen: for every atom, in ascending order, the elements of the reference that the member has.
    """

    def __init__(self, chosen: Mapping[Axis, Tensor]) -> None:
        self._chosen = dict(chosen)
        self._known: dict[Axis, Tensor] = {}

    def indices(self, axis: Axis) -> Tensor:
        """The elements of one of the reference's axes that the member has, in the member's order.

        A product is chosen factor by factor, so that whole heads stay whole; a sum part by part.
        """
        waiting = [axis]
        while waiting:  # sizes nest as deep as a network has blocks
            last = waiting[-1]
            unknown = [part for part in last.parts if part not in self._known]
            waiting += unknown
            if not unknown:
                self._known[waiting.pop()] = self._compound(last) if last.kind else self._chosen[last]
        return self._known[axis]

    def _compound(self, axis: Axis) -> Tensor:
        parts = [self._known[part] for part in axis.parts]
        if axis.kind == "*":
            found = torch.zeros(1, dtype=torch.long)
            for part, own in zip(axis.parts, parts, strict=True):
                found = (found[:, None] * part.size + own).flatten()
            return found
        if axis.kind == "+":
            starts = [sum(part.size for part in axis.parts[:position]) for position in range(len(parts))]
            return torch.cat([own + start for own, start in zip(parts, starts, strict=True)])
        first = parts[0][parts[0] < axis.size]
        return first if len(first) == axis.member else leading(axis)


def select(axes: Sequence[Axis], importance: Mapping[Axis, Tensor], uncut: Iterable[Axis], generator: torch.Generator) -> Selection:
    """Draw a member's channels: the most important ones, in an order that chance has a share in.

    Args:
        axes: of all tensors.
        importance: a positive number for each element of each atom, see `importance_of`.
        uncut: axes of which every member has the leading elements, as tensors that all members share are cut.
        generator: where chance comes from.
    """
    order = atoms(axes)
    fixed = set(atoms(uncut))
    periods = _periods(axes)
    chosen = {}
    for atom in order:
        scores = importance[atom].log()
        noise = -torch.rand(atom.size, generator=generator, dtype=torch.float64).clamp_min(1e-300).log().neg().log()
        ranked = scores + _SHUFFLE * noise
        chosen[atom] = leading(atom) if atom in fixed or atom.member >= atom.size else _most(atom, ranked, periods.get(atom, 1))
    return Selection(chosen)


def _most(atom: Axis, scores: Tensor, period: int) -> Tensor:
    """The best elements: the same of every group that a layer reads apart, equally many of every block, or of all."""
    if period > 1 and not (atom.size % period or atom.member % period):
        pattern = _best(scores.view(period, -1).logsumexp(0), atom.member // period)
        return (torch.arange(period)[:, None] * (atom.size // period) + pattern).flatten()
    if atom.blocks > 1 and not (atom.size % atom.blocks or atom.member % atom.blocks):
        step = atom.size // atom.blocks
        return torch.cat([_best(block, atom.member // atom.blocks) + start * step for start, block in enumerate(scores.split(step))])
    return _best(scores, atom.member)


def _best(scores: Tensor, count: int) -> Tensor:
    return scores.topk(count).indices.sort().values


def leading(axis: Axis) -> Tensor:
    """The first elements of an axis, from the first again where a member has more."""
    return torch.arange(axis.member) % axis.size


def atoms(axes: Iterable[Axis]) -> list[Axis]:
    """What axes are made of, each once, in order."""
    found: dict[Axis, None] = {}
    seen: set[Axis] = set()
    waiting = list(axes)[::-1]
    while waiting:
        axis = waiting.pop()
        if axis in seen:
            continue
        seen.add(axis)
        if axis.kind:
            waiting += axis.parts[::-1]
        else:
            found[axis] = None
    return list(found)


def _periods(axes: Iterable[Axis]) -> dict[Axis, int]:
    """Atoms of which some axis is one of several equal shares: every share has the same choice."""
    periods: dict[Axis, int] = {}
    waiting, seen = list(axes), set()
    while waiting:
        axis = waiting.pop()
        if axis in seen:
            continue
        seen.add(axis)
        waiting += axis.parts
        if axis.kind == "/":
            for atom in atoms(axis.parts):
                periods[atom] = math.lcm(periods.get(atom, 1), axis.divisor)
    return periods


def importance_of(axes: Mapping[str, tuple[Axis, ...]], tensors: Mapping[str, Tensor]) -> dict[Axis, Tensor]:
    """The L2 norm of all that reads or writes each element of an atom, pooled over its tensors, each of which counts the same.

    Args:
        axes: of every tensor.
        tensors: the parameters that tell how important their channels are.
    """
    energy: dict[Axis, Tensor] = {atom: torch.zeros(atom.size, dtype=torch.float64) for own in axes.values() for atom in atoms(own)}
    for name, tensor in tensors.items():
        squares = tensor.detach().abs().to("cpu", torch.float64).square()
        for position, axis in enumerate(axes[name]):
            others = [other for other in range(tensor.dim()) if other != position]
            own = squares.sum(others) if others else squares
            mean = float(own.mean()) if own.numel() else 0.0
            if mean > 0 and math.isfinite(mean):
                _add(axis, own / mean, energy)
    return {atom: (own + _LEAST * max(float(own.max()), 1.0)).sqrt() if own.numel() else own for atom, own in energy.items()}


_LEAST = 1e-12


def _add(axis: Axis, own: Tensor, energy: dict[Axis, Tensor]) -> None:
    """Hand the energy of an axis down to its atoms."""
    waiting = [(axis, own)]
    while waiting:
        axis, own = waiting.pop()
        if not axis.kind:
            energy[axis] += own
        elif axis.kind == "+":
            waiting += zip(axis.parts, own.split([part.size for part in axis.parts]), strict=True)
        elif axis.kind == "*":
            grid = own.reshape([part.size for part in axis.parts])
            for position, part in enumerate(axis.parts):
                others = [other for other in range(len(axis.parts)) if other != position]
                waiting.append((part, grid.mean(others) if others else grid))
        else:
            waiting.append((axis.parts[0], own.repeat(axis.divisor)[: axis.parts[0].size]))
