"""The layers of a network gathered by stage, so that a hundred layers read as ten lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packify.core.report import LayerWidth

_FEW, _MANY = 4, 16
_ALIKE = 0.03


@dataclass(frozen=True)
class Stage:
    """Layers whose names begin alike.

    Attributes:
        name: the part of the name that they share, or ``first ... last`` for stages in a row that look the same.
        layers: how many.
        reference_widths: output widths in the reference.
        member_widths: output widths in a member.
        gammas: how many layers have which gamma.
    """

    name: str
    layers: int
    reference_widths: tuple[int, ...]
    member_widths: tuple[int, ...]
    gammas: tuple[tuple[int, int], ...]

    @property
    def ratio(self) -> float:
        """Width of the member over width of the reference, over all layers."""
        return sum(self.member_widths) / max(1, sum(self.reference_widths))


def stages(layers: Sequence[LayerWidth]) -> list[Stage]:
    """The layers by the beginnings of their names: as few components as give a handful of stages."""
    deepest = max((layer.name.count(".") + 1 for layer in layers), default=1)
    groups = _by_beginning(layers, 1)
    for depth in range(2, deepest + 1):
        finer = _by_beginning(layers, depth)
        if len(groups) >= _FEW or len(finer) > 2 * _MANY:
            break
        groups = finer
    gathered = [_stage(name, members) for name, members in groups.items()]
    return gathered if len(gathered) <= _MANY else _merged(gathered)


def _by_beginning(layers: Sequence[LayerWidth], depth: int) -> dict[str, list[LayerWidth]]:
    groups: dict[str, list[LayerWidth]] = {}
    for layer in layers:
        groups.setdefault(".".join(layer.name.split(".")[:depth]), []).append(layer)
    return groups


def _stage(name: str, layers: Sequence[LayerWidth]) -> Stage:
    gammas = Counter(layer.gamma for layer in layers)
    return Stage(
        name,
        len(layers),
        tuple(layer.reference_out for layer in layers),
        tuple(layer.member_out for layer in layers),
        tuple(sorted(gammas.items(), reverse=True)),
    )


def _merged(gathered: list[Stage]) -> list[Stage]:
    """Neighbours of one ratio and one set of gammas as one line."""
    merged: list[list[Stage]] = []
    for stage in gathered:
        last = merged[-1][-1] if merged else None
        alike = last is not None and abs(last.ratio - stage.ratio) < _ALIKE and dict(last.gammas).keys() == dict(stage.gammas).keys()
        if alike:
            merged[-1].append(stage)
        else:
            merged.append([stage])
    return [_joined(run) for run in merged]


def _joined(run: list[Stage]) -> Stage:
    gammas: Counter[int] = Counter()
    for stage in run:
        gammas.update(dict(stage.gammas))
    return Stage(
        run[0].name if len(run) == 1 else f"{run[0].name} ... {run[-1].name}",
        sum(stage.layers for stage in run),
        tuple(width for stage in run for width in stage.reference_widths),
        tuple(width for stage in run for width in stage.member_widths),
        tuple(sorted(gammas.items(), reverse=True)),
    )
