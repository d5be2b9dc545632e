"""Outputs and labels of classes, in pieces."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from packify.core.errors import DataError
from packify.evaluation.batches import Reader
from packify.evaluation.class_task import ClassTask


class _Twice(nn.Module):
    """A stand-in for a packed network of two members."""

    num_estimators = 2

    def members(self, x: Tensor) -> Tensor:
        return torch.stack((x, -x))


@pytest.mark.parametrize("at_once", [1, 24, 2**23])
def test_pieces_of_a_batch_are_the_batch(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("packify.evaluation.batches._AT_ONCE", at_once)
    logits, labels = torch.randn(5, 3, 2, 2), torch.randint(3, (5, 2, 2))
    labels[1, 0, 1] = labels[4] = 9
    kept = labels.flatten() != 9
    pieces = list(Reader({"a": [_Twice()], "b": [nn.Identity()]}, ClassTask(ignore_index=9)).read([(logits, labels)], "here"))
    for name, sign in (("a", (1, -1)), ("b", (1,))):
        own = [piece for ensemble, piece in pieces if ensemble == name]
        flat = torch.stack([s * logits.movedim(1, -1).reshape(-1, 3)[kept] for s in sign])
        torch.testing.assert_close(torch.cat([piece.logits for piece in own], 1), flat)
        torch.testing.assert_close(torch.cat([piece.log_p for piece in own], 1), flat.log_softmax(-1))
        assert torch.cat([piece.labels for piece in own if piece.labels is not None]).equal(labels.flatten()[kept])
    # a sample has 24 numbers from two members, 12 from one; none of the last sample counts
    assert len(pieces) == {1: 8, 24: 6, 2**23: 2}[at_once]


def test_labels_that_do_not_fit_are_left_out_where_none_are_asked_for() -> None:
    logits = torch.randn(4, 3)
    ((_, piece),) = Reader({"": [nn.Identity()]}, ClassTask()).read([(logits, torch.tensor([7, 7]))], "ood", labelled=False)
    assert (piece.log_p.shape, piece.labels) == ((1, 4, 3), None)
    with pytest.raises(DataError, match="'far data', batch 1"):
        list(Reader({"": [nn.Identity()]}, ClassTask()).read([(logits, torch.zeros(4).long()), (logits, torch.tensor(1))], "'far data'"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_softmax_taken_for_logits_is_told_also_where_it_underflows(dtype: torch.dtype) -> None:
    probabilities = (torch.tensor([[30.0, 0.0, -200.0], [0.0, 1.0, 200.0]]).softmax(-1)).to(dtype)
    assert not probabilities.all()
    with pytest.raises(DataError, match="sum to 1"):
        list(Reader({"net": [nn.Identity()]}, ClassTask()).read([(probabilities, torch.tensor([0, 1]))], "here"))
