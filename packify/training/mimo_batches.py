"""Training batches of MIMO: every member reads a sample of its own, or, for a share of the rows, all read the same."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree

from packify.core.errors import DataError
from packify.core.method_specs import probability
from packify.core.spec import whole_number


def mimo_batch(
    x: Any, y: Any, num_estimators: int, rho: float = 0.5, batch_repetitions: int = 4, *, generator: torch.Generator | None = None
) -> tuple[Any, Any]:
    """Inputs and targets ``"(m b) ..."`` for a MIMO network in training mode (Havasi et al., ICLR 2021, section 3).

    A batch of n samples is repeated `batch_repetitions` times and shuffled: ``b = n * batch_repetitions`` rows. A share rho of the rows
    is the same for all members; the others are shuffled once more for each member. With rho = 1 all members read the same samples.

    Args:
        x: inputs ``"n ..."``: a tensor, or a tuple, list or dict of these.
        y: targets ``"n ..."``, likewise.
        num_estimators: M.
        rho: the share of the rows that all members read, from 0 to 1.
        batch_repetitions: how often each sample is in the batch.
        generator: of the shuffles, on the CPU; by default torch's global one.

    Returns:
        Inputs and targets, member-major, for ``EnsembleLoss(criterion, num_estimators=M)(network(inputs), targets)``.

    Raises:
        SpecError: a number is out of range.
        DataError: tensors of different lengths, or none.
    """
    members, repetitions = whole_number("num_estimators", num_estimators), whole_number("batch_repetitions", batch_repetitions)
    rho = probability("rho", rho)
    tensors = [leaf for leaf in _pytree.tree_leaves((x, y)) if isinstance(leaf, Tensor) and leaf.dim()]
    lengths = {len(tensor) for tensor in tensors}
    if len(lengths) != 1 or not max(lengths):
        raise DataError(
            "mimo_batch",
            found=f"tensors of shapes {', '.join(str(tuple(tensor.shape)) for tensor in tensors)}"
            if tensors
            else "no tensor with a batch axis",
            why="inputs and targets are rows of one batch",
            fix="pass the images and labels of one batch: packify.mimo_batch(x, y, num_estimators=4)",
        )
    rows = torch.arange(max(lengths)).repeat(repetitions)
    rows = rows[torch.randperm(len(rows), generator=generator)]
    own = round(len(rows) * (1 - rho))
    each = [torch.cat([rows[:own][torch.randperm(own, generator=generator)], rows[own:]]) for _ in range(members)]
    chosen = torch.cat(each)

    def take(leaf: Any) -> Any:
        return leaf[chosen.to(leaf.device)] if isinstance(leaf, Tensor) and leaf.dim() else leaf

    inputs, targets = _pytree.tree_map(take, (x, y))
    return inputs, targets
