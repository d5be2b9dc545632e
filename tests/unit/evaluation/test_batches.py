from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from packify.core.errors import DataError
from packify.evaluation import (
    evaluate,
)
from packify.evaluation.batches import Reader, batches_in, split_batch


def test_batches_of_many_shapes() -> None:
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 1])
    wanted = evaluate(nn.Identity(), [(logits, labels)]).nll

    class Sum(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a + b

    zero = torch.zeros_like(logits)
    for network, batch in (
        (nn.Identity(), [logits, labels]),
        (nn.Identity(), (logits, labels.tolist())),
        (nn.Identity(), (logits, labels.numpy())),
        (nn.Identity(), {"pixel_values": logits, "labels": labels}),
        (Sum(), (logits, zero, labels)),
        (Sum(), {"a": logits, "b": zero, "target": labels}),
        (Sum(), ({"a": logits, "b": zero}, labels)),
    ):
        assert evaluate(network, [batch], ood=[batch]).nll == pytest.approx(wanted)
    assert evaluate(nn.Identity(), [labels], split=lambda batch: (logits, batch)).nll == pytest.approx(wanted)
    for ood in ([logits], [(logits,)], [{"x": logits}]):
        assert evaluate(nn.Identity(), [(logits, labels)], ood=ood).ood.entropy.auroc == 0.5  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("batch", "inputs", "labels"),
    [
        (("x", "y"), "x", "y"),
        (["x", "y"], "x", "y"),
        (("a", "b", "y"), ("a", "b"), "y"),
        (["a", "b", "y"], ("a", "b"), "y"),
        (("x",), "x", None),
        ("x", "x", None),
        ({"x": "x", "target": "y"}, "x", "y"),
        ({"labels": "y", "a": 1, "b": 2}, {"a": 1, "b": 2}, "y"),
        ({"y": "y", "label": "z", "x": 1}, {"y": "y", "x": 1}, "z"),
        ({"x": 1}, 1, None),
    ],
)
def test_where_the_labels_of_a_batch_are(batch: Any, inputs: Any, labels: Any) -> None:
    assert split_batch(batch) == (inputs, labels)


def test_lists_and_arrays_of_labels_become_tensors() -> None:
    for given in ([2, 0], np.array([2, 0])):
        _, labels = split_batch(("x", given))
        assert isinstance(labels, Tensor)
        assert labels.tolist() == [2, 0]


def test_the_number_of_batches_is_known_for_all_loaders_or_not_at_all() -> None:
    class Stream(IterableDataset[int]):
        def __iter__(self) -> Iterator[int]:
            return iter(range(4))

    assert batches_in([1, 2], None, (3,)) == 3
    for endless in (iter([1]), DataLoader(Stream())):
        assert batches_in([1, 2], endless) == 0
    assert batches_in([1, 2], []) == 0


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
    pieces = list(Reader({"a": [_Twice()], "b": [nn.Identity()]}, ignore_index=9).read([(logits, labels)], "here"))
    for name, sign in (("a", (1, -1)), ("b", (1,))):
        own = [piece for piece in pieces if piece.name == name]
        flat = torch.stack([s * logits.movedim(1, -1).reshape(-1, 3)[kept] for s in sign])
        torch.testing.assert_close(torch.cat([piece.logits for piece in own], 1), flat)
        torch.testing.assert_close(torch.cat([piece.log_p for piece in own], 1), flat.log_softmax(-1))
        assert torch.cat([piece.labels for piece in own if piece.labels is not None]).equal(labels.flatten()[kept])
    # a sample has 24 numbers from two members, 12 from one; none of the last sample counts
    assert len(pieces) == {1: 8, 24: 6, 2**23: 2}[at_once]


def test_labels_that_do_not_fit_are_left_out_where_none_are_asked_for() -> None:
    logits = torch.randn(4, 3)
    (piece,) = Reader({"": [nn.Identity()]}).read([(logits, torch.tensor([7, 7]))], "ood", labelled=False)
    assert (piece.log_p.shape, piece.labels) == ((1, 4, 3), None)
    with pytest.raises(DataError, match="'far data', batch 1"):
        list(Reader({"": [nn.Identity()]}).read([(logits, torch.zeros(4).long()), (logits, torch.tensor(1))], "'far data'"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_softmax_taken_for_logits_is_told_also_where_it_underflows(dtype: torch.dtype) -> None:
    probabilities = (torch.tensor([[30.0, 0.0, -200.0], [0.0, 1.0, 200.0]]).softmax(-1)).to(dtype)
    assert not probabilities.all()
    with pytest.raises(DataError, match="sum to 1"):
        list(Reader({"net": [nn.Identity()]}).read([(probabilities, torch.tensor([0, 1]))], "here"))
