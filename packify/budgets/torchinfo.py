"""torchinfo's way of counting Mult-Adds, for comparison with published tables (the paper's Table 1 was made with torchinfo 1.7.1).

It counts every call of a module that has parameters and no submodules, from the sizes of its parameters alone:

- ``"Conv"`` in the class name: (weight + bias) * batch * output positions;
- anything else: (weight + bias) * the output's leading size;
- parameters whose name contains ``weight`` or ``bias`` (recurrent layers): parameter * the output's two leading sizes.

So biases and norms are included; attention, einsum and functional layers are not; other parameters count nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from torch import nn

from packify.budgets.measuring import Step


def torchinfo_mult_adds(root: nn.Module, steps: Iterable[Step]) -> dict[str, int]:
    """Mult-Adds by module name, of a run with one sample."""
    modules = dict(root.named_modules(remove_duplicate=False))
    totals: dict[str, int] = {}
    for call in _calls(steps):
        path, shape = call[-1].path, call[-1].output_shape
        module = modules.get(path)
        if module is None or shape is None or any(True for _ in module.children()):
            continue
        count = sum(_of_parameter(module, name, parameter.numel(), shape) for name, parameter in module.named_parameters())
        if count:
            totals[path] = totals.get(path, 0) + count
    return totals


def _calls(steps: Iterable[Step]) -> Iterator[list[Step]]:
    """Steps grouped into calls of one module: neighbours with one path, cut where the weight is read in the same way again."""
    call: list[Step] = []
    for step in steps:
        if step.output_shape is None:
            continue
        again = f"{step.path}.weight" in step.reads and any((earlier.op, earlier.reads) == (step.op, step.reads) for earlier in call)
        if call and (step.path != call[-1].path or again):
            yield call
            call = []
        call.append(step)
    if call:
        yield call


def _of_parameter(module: nn.Module, name: str, size: int, output: tuple[int, ...]) -> int:
    if name in ("weight", "bias"):
        if "Conv" in type(module).__name__:
            return size * math.prod(output[:1] + output[2:])
        return size * math.prod(output[:1])
    if "weight" in name or "bias" in name:
        return size * math.prod(output[:2])
    return 0
