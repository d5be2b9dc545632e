"""The loss of M members: each member's own loss on its own outputs, summed or averaged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree

from packify.core.errors import DataError, SpecError

Reduction = Literal["sum", "mean"]


class EnsembleLoss(nn.Module):
    """Any criterion, evaluated on every member alone, for the outputs ``"(m b) ..."`` of a packed network in training mode.

    The default is the sum over members of each member's own loss, so that every member trains exactly as it would alone and learning
    rates carry over. The criterion sees one member's ``"b ..."`` at a time: class weights, ``ignore_index``, label smoothing and every
    other normalisation inside it are each member's own.

    Targets are passed as they come from the loader: hard labels ``"b"``, probabilities ``"b k"``, maps ``"b h w"``, numbers, or a tuple
    or dict of these. Outputs may be tuples or dicts too (auxiliary heads); the criterion gets the same structure, for one member.

    Args:
        criterion: ``criterion(output, target)``; its own reduction is kept. With ``reduction="none"`` the losses ``"b"`` are combined
            element by element.
        reduction: ``"sum"`` or ``"mean"`` over members. Other libraries average over ``"(m b)"``, which is ``"mean"`` here.
        num_estimators: M. Left out, it is ``len(output) / len(target)``, so that the same object takes the average of evaluation mode and
            single networks too (M = 1). It must be given for independent inputs, whose targets are ``"(m b) ..."`` already, as long as
            the outputs: outputs and targets of one length are then cut into M members.

    Raises:
        SpecError: `reduction` or `num_estimators` cannot be.
        DataError: on a call whose outputs and targets do not fit each other or the criterion; the message shows both shapes.

    Example:
        >>> criterion = EnsembleLoss(nn.CrossEntropyLoss(label_smoothing=0.1))
        >>> criterion(packed(images), labels).backward()
    """

    def __init__(self, criterion: Callable[..., Any], reduction: Reduction = "sum", num_estimators: int | None = None) -> None:
        super().__init__()
        if reduction not in get_args(Reduction):
            raise SpecError(
                f"EnsembleLoss(reduction={reduction!r})",
                found=repr(reduction),
                why="members' losses are summed (each trains as it would alone) or averaged",
                fix='pass reduction="sum" or reduction="mean"',
            )
        if num_estimators is not None:
            check_num_estimators(num_estimators, "EnsembleLoss")
        self.criterion = criterion
        self.reduction: Reduction = reduction
        self.num_estimators = num_estimators

    def forward(self, outputs: Any, targets: Any) -> Any:
        """The members' losses as one.

        Args:
            outputs: ``"(m b) ..."``, member-major.
            targets: ``"b ..."`` for all members, or ``"(m b) ..."`` for independent inputs.
        """
        members, own_targets = self._split(outputs, targets)
        losses = [
            self._of_one(
                _of_member(outputs, member, members), _of_member(targets, member, members, numbers=False) if own_targets else targets
            )
            for member in range(members)
        ]
        if members == 1:
            return losses[0]
        combine = torch.sum if self.reduction == "sum" else torch.mean
        return _pytree.tree_map(lambda *parts: combine(torch.stack(parts), 0), *losses)

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}" + (f", num_estimators={self.num_estimators}" if self.num_estimators else "")

    def _of_one(self, output: Any, target: Any) -> Any:
        """The criterion's loss of one member; what it says about targets that do not fit is told with both shapes."""
        shapes = [tuple(each.shape) for each in (output, target) if isinstance(each, Tensor)]
        if len(shapes) == 2 and shapes[0] != shapes[1] and _takes_equal_shapes(self.criterion):
            raise _misfit(shapes, "the criterion would compare every output with every target of the batch")
        try:
            return self.criterion(output, target)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, IndexError) as error:
            if len(shapes) < 2:
                raise
            raise _misfit(shapes, f"the criterion refuses them: {error}") from error

    def _split(self, outputs: Any, targets: Any) -> tuple[int, bool]:
        """M, and whether each member has targets of its own."""
        output, target = _first(outputs, "outputs"), _first(targets, "targets")
        rows, wanted = len(output), len(target)
        if self.num_estimators is None:
            if wanted and rows and rows % wanted == 0:
                return rows // wanted, False
        elif rows and rows % self.num_estimators == 0 and wanted in (rows, rows // self.num_estimators):
            return self.num_estimators, wanted == rows
        members = "M" if self.num_estimators is None else str(self.num_estimators)
        raise DataError(
            "EnsembleLoss",
            found=f"outputs of shape {tuple(output.shape)} and targets of shape {tuple(target.shape)}",
            why=f'outputs are "(m b) ...", {members} times as long as targets "b ..." (or as long as "(m b) ..." of independent inputs)',
            fix="pass packed(x) of a network in training mode, and the targets of the batch x as the loader gives them",
        )


def repeat_targets(targets: Any, num_estimators: int) -> Any:
    """Targets ``"b ..."`` for every member, ``"(m b) ..."``, member-major, for a criterion that is called on the flat batch.

    Args:
        targets: a tensor, or a tuple, list or dict of these. What has no batch axis (numbers such as mixup's lambda, scalar tensors,
            text) stays as it is.
        num_estimators: M.

    Raises:
        SpecError: M is not a whole number of at least 1.
    """
    check_num_estimators(num_estimators, "repeat_targets")

    def repeat(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.dim():
            return leaf
        return leaf.repeat(num_estimators, *(1,) * (leaf.dim() - 1))

    return _pytree.tree_map(repeat, targets)


def check_num_estimators(value: object, where: str) -> None:
    """Raise SpecError unless `value` is a possible M."""
    if type(value) is not int or value < 1:
        raise SpecError(
            f"{where}: num_estimators", found=repr(value), why="M is a whole number of at least 1", fix="pass packed.num_estimators"
        )


def _takes_equal_shapes(criterion: Any) -> bool:
    """Whether it is one of torch's losses that broadcast targets of another shape, and only warn of it."""
    return isinstance(criterion, _ELEMENTWISE) or criterion in _ELEMENTWISE_FUNCTIONS


_ELEMENTWISE = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss)
_ELEMENTWISE_FUNCTIONS = (F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss)


def _misfit(shapes: list[tuple[int, ...]], why: str) -> DataError:
    return DataError(
        "EnsembleLoss",
        found=f"outputs of shape {shapes[0]} of one member and targets of shape {shapes[1]}",
        why=" ".join(why.split())[:400],
        fix="give the criterion targets of the form that it takes for one network alone: class numbers, probabilities, or numbers of the "
        "outputs' shape",
    )


def _first(values: Any, name: str) -> Tensor:
    """The first tensor with a batch axis."""
    for leaf in _pytree.tree_leaves(values):
        if isinstance(leaf, Tensor) and leaf.dim():
            return leaf
    raise DataError(
        f"EnsembleLoss: {name}",
        found=f"a {type(values).__name__} without a tensor that has a batch axis",
        why="the batch is counted along the first axis of the first tensor",
        fix="pass tensors, or tuples, lists or dicts of tensors",
    )


def _of_member(values: Any, member: int, members: int, numbers: bool = True) -> Any:
    """Member `member`'s share ``"b ..."`` of every tensor ``"(m b) ..."``; where `numbers`, one number of ``"m"`` as a scalar."""
    rows = len(_first(values, "outputs"))

    def share(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.dim():
            return leaf
        if numbers and leaf.dim() == 1 and len(leaf) == members < rows:
            return leaf[member]
        if len(leaf) % members:
            raise DataError(
                "EnsembleLoss",
                found=f"a tensor of shape {tuple(leaf.shape)} beside one of {rows} rows",
                why=f"its first axis does not hold {members} members",
                fix='pass outputs (and targets of independent inputs) "(m b) ...", every tensor of them',
            )
        return leaf.chunk(members)[member]

    return _pytree.tree_map(share, values)
