"""Different inputs for each member (Figure 3b of the paper): batches ``"(m b) ..."``, member-major, from any dataset."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sized
from typing import Any, Literal, get_args

import torch
from torch.utils.data import Sampler, default_collate

from packify.core.errors import SpecError
from packify.training.losses import check_num_estimators

Order = Literal["own", "same"]


class IndependentBatchSampler(Sampler[list[int]]):
    """Batches of M * `batch_size` indices, member-major: each member goes through the whole dataset in an order of its own.

    For ``DataLoader(dataset, batch_sampler=...)``, with any number of workers. Every index is fetched for one member alone, so that what
    the dataset draws at random (its augmentations) is that member's own. The order of member m depends on the seed, the epoch and m
    only, not on M. An epoch is one pass of every member over the dataset.

    Args:
        dataset: anything with a length, or the length.
        num_estimators: M.
        batch_size: samples of one member per batch.
        order: ``"own"``: an order per member; ``"same"``: all members get the same samples, each with an augmentation of its own.
        shuffle: False goes through the dataset in its own order.
        seed: of all orders.
        drop_last: leave out the last batch where it is smaller.
        num_replicas: number of processes that share each epoch; the orders are filled up with their beginning to a multiple of it.
        rank: which of them this is.

    Raises:
        SpecError: a number cannot be.

    Example:
        >>> sampler = IndependentBatchSampler(dataset, num_estimators=4, batch_size=32, seed=0)
        >>> loader = DataLoader(dataset, batch_sampler=sampler, num_workers=4)
        >>> for epoch in range(10):
        ...     sampler.set_epoch(epoch)
        ...     for images, labels in loader:  # "(m b) c h w" and "(m b)"
    """

    def __init__(
        self,
        dataset: Sized | int,
        num_estimators: int,
        batch_size: int,
        *,
        order: Order = "own",
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        check_num_estimators(num_estimators, "IndependentBatchSampler")
        length = dataset if isinstance(dataset, int) else len(dataset)
        wanted = {
            "a dataset of at least one sample": length >= 1,
            "a batch_size of at least 1": type(batch_size) is int and batch_size >= 1,
            f"an order of {' or '.join(get_args(Order))}": order in get_args(Order),
            "a rank from 0 to num_replicas - 1": 0 <= rank < num_replicas,
        }
        for what, held in wanted.items():
            if not held:
                raise SpecError(
                    "IndependentBatchSampler",
                    found=f"{length} samples, batch_size={batch_size!r}, order={order!r}, rank {rank!r} of {num_replicas!r}",
                    why=f"it needs {what}",
                    fix="pass for example IndependentBatchSampler(dataset, num_estimators=4, batch_size=32)",
                )
        self.num_estimators, self.batch_size, self.order, self.shuffle = num_estimators, batch_size, order, shuffle
        self.seed, self.drop_last, self.num_replicas, self.rank = seed, drop_last, num_replicas, rank
        self.epoch = 0
        self._length = length

    def set_epoch(self, epoch: int) -> None:
        """Choose the orders of `epoch`, for resuming and for equal orders in several processes. Without it every pass is the next epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        own = math.ceil(self._length / self.num_replicas)
        return own // self.batch_size if self.drop_last else math.ceil(own / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        orders = [self._indices(0 if self.order == "same" else member) for member in range(self.num_estimators)]
        self.epoch += 1
        return iter(_batches(orders, self.batch_size, len(self)))

    def _indices(self, member: int) -> torch.Tensor:
        """This process's share of the order of one member."""
        indices = torch.arange(self._length)
        if self.shuffle:
            key = hashlib.sha256(f"{self.seed} {self.epoch} {member}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "big") >> 1)
            indices = indices[torch.randperm(self._length, generator=generator)]
        total = math.ceil(self._length / self.num_replicas) * self.num_replicas
        filled = indices.repeat(math.ceil(total / self._length))[:total]
        return filled[self.rank :: self.num_replicas]


class IndependentCollate:
    """Collate b samples into ``"(m b) ..."``: the same samples for all members, each member's with an augmentation of its own.

    A sample is read and decoded once, and transformed M times. For ``DataLoader(dataset, collate_fn=...)``, in the workers too.

    Args:
        num_estimators: M.
        transform: called once per member and sample: on the first item of a sample that is a tuple or list, such as
            ``(image, label)``, otherwise on the whole sample. Left out, members get equal inputs.
        collate: makes one batch of a list of samples.

    Raises:
        SpecError: M is not a whole number of at least 1.
    """

    def __init__(
        self,
        num_estimators: int,
        transform: Callable[[Any], Any] | None = None,
        collate: Callable[[list[Any]], Any] = default_collate,
    ) -> None:
        check_num_estimators(num_estimators, "IndependentCollate")
        self.num_estimators, self.transform, self.collate = num_estimators, transform, collate

    def __call__(self, samples: list[Any]) -> Any:
        """The batch ``"(m b) ..."`` of a list of b samples."""
        return self.collate([self._augmented(sample) for _ in range(self.num_estimators) for sample in samples])

    def _augmented(self, sample: Any) -> Any:
        if self.transform is None:
            return sample
        if isinstance(sample, (tuple, list)):
            return (self.transform(sample[0]), *sample[1:])
        return self.transform(sample)


def _batches(orders: list[torch.Tensor], size: int, batches: int) -> Iterator[list[int]]:
    for batch in range(batches):
        rows = [order[batch * size : (batch + 1) * size] for order in orders]
        yield torch.cat(rows).tolist()
