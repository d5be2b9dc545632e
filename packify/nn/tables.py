"""Tables of a reference's code at a member's widths: frequencies, sinusoids and bins as the code would have computed them.

An axis that scales is written by its formula where one explains its numbers: a geometric or an arithmetic progression, or the sines and
cosines of positions times such a progression. Of any other table the leading part is taken, or it is repeated.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from packify.core.report import Note
from packify.nn.tree import resized

_CLOSE = 1e-4
_SHORT = 3


def fitted(table: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, str]:
    """A table at a member's shape, and how it was made: ``"as it is"``, by which formula, or ``"the leading part"``.

    Args:
        table: the reference's.
        shape: with as many axes.
    """
    moved = [axis for axis, size in enumerate(shape) if size != table.shape[axis]]
    if not moved:
        return table, "as it is"
    if not (table.is_floating_point() or table.is_complex()) or table.is_meta:
        return resized(table, shape), LEADING
    made, words = table, []
    for axis in moved:
        found = _along(made, axis, shape[axis])
        if found is None:
            return resized(table, shape), LEADING
        made, how = found
        words.append(how)
    return made, " and ".join(dict.fromkeys(words))


def table_notes(name: str, table: Tensor, shape: tuple[int, ...], how: str) -> list[Note]:
    """What the report says of a table of real numbers that got another size; nothing of one that holds a single number."""
    if tuple(table.shape) == shape or how == "a constant" or not (table.is_floating_point() or table.is_complex()):
        return []
    sizes = f"table of {'x'.join(map(str, table.shape))} -> {'x'.join(map(str, shape))}"
    if how == LEADING:
        return [Note(name, "", f"{sizes}: {how}", "no formula that is known gives its numbers")]
    return [Note(name, "", f"{sizes}: computed anew", f"it is {how}")]


LEADING = "the leading part"


def _along(table: Tensor, axis: int, size: int) -> tuple[Tensor, str] | None:
    """The table with another size along one axis."""
    rows = table.movedim(axis, -1)
    found = _fibres(rows.reshape(-1, rows.shape[-1]), size)
    if found is None:
        return None
    made, how = found
    return made.reshape(*rows.shape[:-1], size).movedim(-1, axis).to(table.dtype), how


def _fibres(rows: Tensor, size: int) -> tuple[Tensor, str] | None:
    """``"r n"`` to ``"r size"``."""
    if rows.shape[1] and bool((rows == rows[:, :1]).all()):
        return rows[:, :1].expand(-1, size), "a constant"
    if rows.is_complex():
        angles = _waves(torch.view_as_real(rows).permute(2, 0, 1)[1], size) if bool((rows.abs() - 1).abs().max() < _CLOSE) else None
        real = None if angles is None else _waves(rows.real.contiguous(), size)
        return None if angles is None or real is None else (torch.complex(real, angles), "sinusoids")
    wide = rows.to(torch.float64)
    progression = _rows_of(wide, size)
    if progression is not None:
        return progression
    waves = _waves(wide, size)
    return None if waves is None else (waves, "sinusoids")


def _rows_of(rows: Tensor, size: int) -> tuple[Tensor, str] | None:
    """Every row one progression of one kind: a scale for each, and what they share."""
    count = rows.shape[1]
    if count < _SHORT:
        return None
    strongest = rows[rows.abs().sum(1).argmax()]
    for follow, how in ((geometric, "a geometric progression"), (arithmetic, "an arithmetic progression")):
        made = _patterned(strongest, size, follow)
        if made is None:
            continue
        scale = (rows @ strongest) / (strongest @ strongest)
        if bool((rows - scale[:, None] * strongest).abs().max() <= _CLOSE * strongest.abs().max()):
            return scale[:, None] * made, how
    return None


def _patterned(values: Tensor, size: int, follow: Callable[[Tensor, int], Tensor | None]) -> Tensor | None:
    """A progression, each number of it once, twice in a row, or the whole of it twice."""
    count = len(values)
    made = follow(values, size)
    if made is not None or count % 2 or size % 2:
        return made
    pairs, halves = values.unflatten(0, (count // 2, 2)), values.unflatten(0, (2, count // 2))
    if torch.allclose(pairs[:, 0], pairs[:, 1], rtol=_CLOSE):
        made = follow(pairs[:, 0], size // 2)
        return None if made is None else made.repeat_interleave(2)
    if torch.allclose(halves[0], halves[1], rtol=_CLOSE):
        made = follow(halves[0], size // 2)
        return None if made is None else made.repeat(2)
    return None


def geometric(values: Tensor, size: int) -> Tensor | None:
    """``start * base ** (-i / n)``, or ``start * base ** (-i / (n - 1))`` where that base is the rounder number, at another n."""
    count = len(values)
    if count < _SHORT or bool((values <= 0).any()):
        return None
    steps = values.log().diff()
    step = float(steps.mean())
    if abs(step) < 1e-9 or float((steps - step).abs().max()) > _CLOSE * max(1.0, abs(step)):
        return None
    ends_count = _digits(math.exp(abs(step) * (count - 1))) < _digits(math.exp(abs(step) * count))
    if ends_count and size > 1:
        step *= (count - 1) / (size - 1)
    else:
        step *= count / size
    return values[0] * torch.exp(step * torch.arange(size, dtype=values.dtype))


def arithmetic(values: Tensor, size: int) -> Tensor | None:
    """From its first to its last number, the middles of n bins, or ``i / n``, at another n; whole numbers in a row are counts."""
    count = len(values)
    steps = values.diff()
    step = float(steps.mean())
    scale = float(values.abs().max())
    if count < _SHORT or not step or float((steps - step).abs().max()) > _CLOSE * abs(step):
        return None
    first, index = float(values[0]), torch.arange(size, dtype=values.dtype)
    if abs(abs(step) - 1) < _CLOSE and abs(first - round(first)) < _CLOSE:
        return first + step * index
    if abs(first - step / 2) < _CLOSE * scale:
        return (index + 0.5) * step * count / size
    if abs(first) < _CLOSE * scale and _digits(abs(step) * count) < _digits(abs(step) * (count - 1)):
        return index * step * count / size
    return torch.linspace(first, float(values[-1]), size, dtype=values.dtype) if size > 1 else values[:1]


def _digits(number: float) -> int:
    """How many digits a person would have to write; one for a power of two."""
    if number > 0 and abs(math.log2(number) - round(math.log2(number))) < 2e-4:
        return 1
    return next((digits for digits in range(1, 6) if abs(float(f"{number:.{digits - 1}e}") - number) < 2e-4 * abs(number)), 6)


def _waves(table: Tensor, size: int) -> Tensor | None:
    """``sin(p * w)`` and ``cos(p * w)`` of positions p = 0, 1, ... (rows) and frequencies w, side by side or in turn."""
    count = table.shape[1]
    table = table.to(torch.float64)
    cosines = table[0] > 0.5
    pattern = _pattern(cosines, size)
    if len(table) < _SHORT or count < _SHORT or pattern is None or not bool(((table[0] - cosines.double()).abs() < _CLOSE).all()):
        return None
    made = torch.empty(len(table), size, dtype=torch.float64)
    for wave, here, there in ((torch.sin, ~cosines, ~pattern), (torch.cos, cosines, pattern)):
        if bool(here.any()):
            new = _one_wave(table[:, here], int(there.sum()), wave)
            if new is None:
                return None
            made[:, there] = new
    return made


def _one_wave(table: Tensor, size: int, wave: Callable[[Tensor], Tensor]) -> Tensor | None:
    """A table of sines alone, or of cosines alone, each frequency once, twice in a row, or all of them twice."""
    count = table.shape[1]
    if count % 2 == 0 and size % 2 == 0 and count > 2:
        pairs, halves = table.unflatten(1, (count // 2, 2)), table.unflatten(1, (2, count // 2))
        if torch.allclose(pairs[..., 0], pairs[..., 1], atol=_CLOSE):
            new = _one_wave(pairs[..., 0], size // 2, wave)
            return None if new is None else torch.repeat_interleave(new, 2, 1)
        if torch.allclose(halves[:, 0], halves[:, 1], atol=_CLOSE):
            new = _one_wave(halves[:, 0], size // 2, wave)
            return None if new is None else new.repeat(1, 2)
    first = table[1].clamp(-1, 1)
    frequencies = first.asin() if wave is torch.sin else first.acos()
    clear = int((frequencies > (1e-6 if wave is torch.sin else _CLEAR)).long().cumprod(0).sum())
    if clear < _SHORT or float((steps := frequencies[:clear].log().diff()).std()) > 1e-3:
        return None
    positions = torch.arange(len(table), dtype=torch.float64)[:, None]
    law = frequencies[0] * torch.exp(steps.mean() * torch.arange(count))
    if not torch.allclose(wave(positions * law), table, atol=2e-2):
        return None
    new = geometric(law, size)
    return None if new is None else wave(positions * new)


# Below this frequency a cosine of float32 does not tell it.
_CLEAR = 0.02


def _pattern(cosines: Tensor, size: int) -> Tensor | None:
    """Which columns of the new table are cosines: none, all, one half, or every other one."""
    count = len(cosines)
    if bool((cosines == cosines[0]).all()):
        return cosines[:1].expand(size)
    if count % 2 or size % 2:
        return None
    halves, turns = cosines.unflatten(0, (2, count // 2)), cosines.unflatten(0, (count // 2, 2))
    if bool((halves == halves[:, :1]).all()):
        side_by_side: Tensor = halves[:, 0].repeat_interleave(size // 2)
        return side_by_side
    in_turn: Tensor = turns[0].repeat(size // 2)
    return in_turn if bool((turns == turns[:1]).all()) else None
