"""An exported file against torch: the same inputs at three batch sizes, the largest difference of every output."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from packify.core.errors import ExportError

# Largest relative error of a file whose network runs in a dtype: of the size of the output's largest value.
_TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}
# They jump where two members' or two classes' values are nearly equal, so a rounding error can change them at will.
_JUMPING = ("prediction", "variation_ratio", "disagreement")


@dataclass(frozen=True)
class Difference:
    """How far one output of the file is from torch's.

    Attributes:
        output: its name.
        max_error: the largest absolute difference.
        relative_error: that, over the largest absolute value of torch's output.
    """

    output: str
    max_error: float
    relative_error: float


@dataclass(frozen=True)
class Comparison:
    """One batch size.

    Attributes:
        batch: the batch size.
        differences: of every output.
    """

    batch: int
    differences: tuple[Difference, ...]

    @property
    def worst(self) -> Difference:
        """The output with the largest relative error among those that do not jump."""
        steady = [one for one in self.differences if not jumps(one.output)]
        return max(steady or self.differences, key=lambda one: one.relative_error)


def jumps(output: str) -> bool:
    """Whether a rounding error can change an output at will: a class, or a share of votes."""
    return output.endswith(_JUMPING)


def compare(
    file: Callable[[Sequence[Tensor]], Mapping[str, Tensor]],
    network: Callable[..., Mapping[str, Tensor]],
    batches: Sequence[Sequence[Tensor]],
    dtype: torch.dtype,
    *,
    judge: bool = True,
) -> tuple[Comparison, ...]:
    """Run both on each batch.

    Args:
        file: gives the file's outputs by name.
        network: gives torch's.
        batches: inputs, one set of tensors per comparison.
        dtype: that the file's network runs in.
        judge: refuse a file that is too far off; otherwise only tell how far it is.

    Raises:
        ExportError: the file does not run, has other outputs, or differs too much.
    """
    found = []
    for inputs in batches:
        size = len(inputs[0]) if inputs and inputs[0].dim() else 1
        with torch.no_grad():
            wanted = network(*inputs)
        try:
            given = file(inputs)
        except Exception as error:
            raise ExportError(
                f"the file at batch {size}",
                found=f"{type(error).__name__}: {' '.join(str(error).split())}"[:400],
                why="the network runs at this batch size, and its file does not",
                fix=_ONE_SIZE if len(batches) > 1 else "export to another format; --no-check writes the file as it is",
            ) from error
        one = Comparison(size, tuple(_difference(name, wanted[name], given.get(name), size) for name in wanted))
        found.append(one)
        if judge and one.worst.relative_error > _TOLERANCES.get(dtype, 1e-3):
            worst = one.worst
            raise ExportError(
                f"{worst.output} at batch {size}",
                found=f"a difference of {worst.max_error:.3g}, {worst.relative_error:.3g} of its largest value",
                why=f"the file does not give what torch gives: {_TOLERANCES.get(dtype, 1e-3):g} is allowed",
                fix="export in float32, or to another format; --no-check writes the file as it is",
            )
    return tuple(found)


_ONE_SIZE = "export for one batch size: --batch 1 (batch=1)"


def _difference(name: str, wanted: Tensor, given: Tensor | None, batch: int) -> Difference:
    if given is None or given.shape != wanted.shape:
        shape = "no such output" if given is None else f"shape {tuple(given.shape)}"
        raise ExportError(
            f"{name} at batch {batch}",
            found=f"{shape} in the file, {tuple(wanted.shape)} in torch",
            why="the file was traced for one batch size",
            fix=_ONE_SIZE,
        )
    ours, theirs = wanted.detach().double().cpu(), given.detach().double().cpu()
    if not bool(ours.isfinite().all()):
        raise ExportError(
            f"{name} at batch {batch}",
            found="NaN or infinite values",
            why="on random inputs the network itself gives no numbers, so nothing can be compared",
            fix="look for overflow in half precision (export in float32 or bf16), or for weights that were never filled",
        )
    error = (ours - theirs).abs().max().item() if ours.numel() else 0.0
    error = error if math.isfinite(error) else math.inf
    largest = ours.abs().max().item() if ours.numel() else 0.0
    return Difference(name, error, error / max(largest, 1e-3))
