"""Batches per member through a DataLoader: order, seeds, epochs, processes and augmentations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import packify
from packify.core.errors import SpecError
from packify.training import IndependentBatchSampler, IndependentCollate


class _Numbers(Dataset[tuple[torch.Tensor, int]]):
    """Sample i is (i plus noise, i)."""

    def __init__(self, length: int = 10) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.full((2,), float(index)) + torch.rand(2) / 2, index


def _orders(sampler: IndependentBatchSampler) -> list[list[int]]:
    """Each member's order in one epoch."""
    members: list[list[int]] = [[] for _ in range(sampler.num_estimators)]
    for batch in sampler:
        for member, share in enumerate(torch.tensor(batch).chunk(sampler.num_estimators)):
            members[member] += share.tolist()
    return members


def test_each_member_sees_everything_once_in_its_own_order() -> None:
    orders = _orders(IndependentBatchSampler(10, 4, 3, seed=1))
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4


def test_batches_are_member_major_and_the_last_is_smaller() -> None:
    sampler = IndependentBatchSampler(10, 2, 4)
    assert [len(batch) for batch in sampler] == [8, 8, 4]
    assert len(sampler) == 3
    dropped = IndependentBatchSampler(10, 2, 4, drop_last=True)
    assert [len(batch) for batch in dropped] == [8, 8]
    assert len(dropped) == 2


def test_seeds_and_epochs_decide_and_the_number_of_members_does_not() -> None:
    a, b = IndependentBatchSampler(20, 2, 5, seed=3), IndependentBatchSampler(20, 4, 5, seed=3)
    first = _orders(a)
    assert first == _orders(b)[:2]
    second = _orders(a)
    assert second != first  # without set_epoch, the next pass is the next epoch
    a.set_epoch(0)
    assert _orders(a) == first
    a.set_epoch(1)
    assert _orders(a) == second
    assert _orders(IndependentBatchSampler(20, 2, 5, seed=4)) != first
    assert _orders(IndependentBatchSampler(20, 2, 5, seed=3, shuffle=False)) == [list(range(20))] * 2


def test_the_same_order_for_all() -> None:
    orders = _orders(IndependentBatchSampler(10, 3, 4, order="same"))
    assert orders[0] == orders[1] == orders[2]
    assert sorted(orders[0]) == list(range(10))


@pytest.mark.parametrize("length", [10, 2])
def test_processes_share_an_epoch(length: int) -> None:
    shares = [_orders(IndependentBatchSampler(length, 2, 2, num_replicas=3, rank=rank)) for rank in range(3)]
    for member in range(2):
        seen = [index for share in shares for index in share[member]]
        assert set(seen) == set(range(length))
        assert len({len(share[member]) for share in shares}) == 1


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine of one core
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gives_member_major_batches(workers: int) -> None:
    dataset = _Numbers()
    sampler = IndependentBatchSampler(dataset, 2, 4, order="same", shuffle=False)
    images, labels = next(iter(DataLoader(dataset, batch_sampler=sampler, num_workers=workers)))
    assert images.shape == (8, 2)
    assert labels.tolist() == [0, 1, 2, 3] * 2
    assert torch.equal(images.floor(), labels[:, None].expand(8, 2).float())
    assert not torch.equal(*images.chunk(2))  # each member's own augmentation


def _negate_or_not(image: torch.Tensor) -> torch.Tensor:
    return image + torch.rand(()) * 100


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine of one core
@pytest.mark.parametrize("workers", [0, 2])
def test_collate_augments_once_per_member(workers: int) -> None:
    loader = DataLoader(_Numbers(), batch_size=5, collate_fn=IndependentCollate(3, _negate_or_not), num_workers=workers)
    images, labels = next(iter(loader))
    assert images.shape == (15, 2)
    assert labels.tolist() == list(range(5)) * 3
    parts = images.chunk(3)
    # one number is added per member and sample, so the difference of a sample's two entries is that of the sample itself
    torch.testing.assert_close(parts[0][:, 0] - parts[0][:, 1], parts[1][:, 0] - parts[1][:, 1], atol=1e-4, rtol=0)
    assert len({round(float(part[0, 0]), 3) for part in parts}) == 3


def test_collate_without_a_transform_and_of_dicts() -> None:
    same = IndependentCollate(2)([torch.tensor(1), torch.tensor(2)])
    assert same.tolist() == [1, 2, 1, 2]
    doubled = IndependentCollate(2, lambda sample: {"x": sample["x"] * 2})([{"x": torch.tensor(3)}])
    assert doubled["x"].tolist() == [6, 6]


@pytest.mark.parametrize(
    "wrong",
    [{"num_estimators": 0}, {"batch_size": 0}, {"dataset": 0}, {"order": "none"}, {"rank": 1}, {"num_replicas": 0}],
)
def test_numbers_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        IndependentBatchSampler(**{"dataset": 10, "num_estimators": 2, "batch_size": 2, **wrong})


def test_a_packed_network_trains_on_such_batches() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 10))
    packed = packify.pack(model, torch.randn(4, 2), alpha=2, num_estimators=2, inputs="independent").train()
    criterion = packify.training.EnsembleLoss(torch.nn.functional.cross_entropy, num_estimators=2)
    dataset = _Numbers()
    loader = DataLoader(dataset, batch_sampler=IndependentBatchSampler(dataset, 2, 5))
    for images, labels in loader:
        outputs = packed(images)
        wanted = sum(torch.nn.functional.cross_entropy(packed.extract(m).train()(images.chunk(2)[m]), labels.chunk(2)[m]) for m in range(2))
        torch.testing.assert_close(criterion(outputs, labels), wanted)
