from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from packify.evaluation import evaluate
from packify.evaluation.batches import batches_in, parts_of, split_batch


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
    for given in ([2, 0], np.array([2, 0]), [2.0, 0.0]):
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


def test_parts_of_a_batch_hold_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("packify.evaluation.batches._AT_ONCE", 10)
    assert list(parts_of(7, 35)) == [slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 8)]
    assert list(parts_of(2, 1000)) == [slice(0, 1), slice(1, 2)]
    assert list(parts_of(0, 0)) == []
