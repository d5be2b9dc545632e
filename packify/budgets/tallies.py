"""A measured run and the tensors it reads, added up: by module, and as the `Cost` of one network and of M packed ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from packify.budgets.cost import Convention, Cost
from packify.budgets.effects import Effects
from packify.budgets.measuring import Network, Run, kept_for_backward, measure
from packify.budgets.torchinfo import torchinfo_mult_adds


@dataclass(frozen=True)
class Tally:
    """One network (the reference or a member), counted.

    Attributes:
        cost: the totals.
        params: parameters by module name; a tied tensor counts once, where it is first.
        mult_adds: Mult-Adds by module name.
        kinds: what each of these modules is: its heaviest operator, else its class.
        input_bytes: one sample of the inputs.
        scalars: buffers without axes (a packed network keeps one of each).
        scalar_bytes: their bytes by dtype.
        trained: whether what training keeps was measured.
    """

    cost: Cost
    params: dict[str, int]
    mult_adds: dict[str, int]
    kinds: dict[str, str]
    input_bytes: int
    scalars: int
    scalar_bytes: dict[str, int]
    trained: bool

    def packed(self, count: int) -> Cost:
        """`count` members side by side: `count` times everything, but for one shared input and one of each scalar buffer.

        Trained in turn, they keep what one of them keeps.
        """
        one = self.cost
        shared = (count - 1) * self.input_bytes
        return Cost(
            params=count * one.params,
            buffers=count * one.buffers - (count - 1) * self.scalars,
            mult_adds=count * one.mult_adds,
            weight_bytes={dtype: count * size - (count - 1) * self.scalar_bytes.get(dtype, 0) for dtype, size in one.weight_bytes.items()},
            param_bytes=count * one.param_bytes,
            inference_bytes=count * one.inference_bytes - shared,
            training_bytes=count * one.training_bytes - (shared if one.training_bytes else 0),
            training_bytes_in_turn=one.training_bytes,
        )

    def ensemble(self, count: int) -> Cost:
        """`count` separate networks that run one after the other."""
        one = self.cost
        return Cost(
            params=count * one.params,
            buffers=count * one.buffers,
            mult_adds=count * one.mult_adds,
            weight_bytes={dtype: count * size for dtype, size in one.weight_bytes.items()},
            param_bytes=count * one.param_bytes,
            inference_bytes=one.inference_bytes,
            training_bytes=one.training_bytes,
            training_bytes_in_turn=one.training_bytes,
        )


def tally(
    evaluation: Network, training: Network | None, convention: Convention, dtype: torch.dtype | None, effects: Effects | None = None
) -> Tally:
    """Measure a network and add everything up; without a `training` network, no bytes are kept for backward."""
    root = evaluation.root
    run = measure(evaluation, dtype, effects)
    kept = 0 if training is None else kept_for_backward(training, dtype, effects)
    mult_adds = torchinfo_mult_adds(root, run.steps) if convention == "torchinfo" else _macs(run)
    params: Counter[str] = Counter()
    for name, parameter in root.named_parameters():
        params[name.rpartition(".")[0]] += parameter.numel()
    buffers = list(root.buffers())
    scalars = [buffer for buffer in buffers if buffer.dim() == 0]
    parameters = list(root.parameters())
    cost = Cost(
        params=sum(params.values()),
        buffers=sum(buffer.numel() for buffer in buffers),
        mult_adds=sum(mult_adds.values()),
        weight_bytes=_bytes_by_dtype([*parameters, *buffers], dtype),
        param_bytes=sum(_bytes_by_dtype(parameters, dtype).values()),
        inference_bytes=run.peak_bytes,
        training_bytes=kept,
        training_bytes_in_turn=kept,
    )
    return Tally(
        cost,
        dict(params),
        mult_adds,
        _kinds(root, run),
        run.input_bytes,
        len(scalars),
        _bytes_by_dtype(scalars, dtype),
        training is not None,
    )


def _macs(run: Run) -> dict[str, int]:
    totals: Counter[str] = Counter()
    for step in run.steps:
        if step.mult_adds:
            totals[step.path] += step.mult_adds
    return dict(totals)


def _kinds(root: nn.Module, run: Run) -> dict[str, str]:
    kinds = {path: type(module).__name__ for path, module in root.named_modules(remove_duplicate=False)}
    heaviest: dict[str, int] = {}
    for step in run.steps:
        if step.mult_adds > heaviest.get(step.path, 0):
            heaviest[step.path] = step.mult_adds
            kinds[step.path] = step.op
    return kinds


def _bytes_by_dtype(tensors: Sequence[Tensor], dtype: torch.dtype | None) -> dict[str, int]:
    totals: Counter[str] = Counter()
    for tensor in tensors:
        kind = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
        totals[str(kind).removeprefix("torch.")] += tensor.numel() * kind.itemsize
    return dict(totals)
