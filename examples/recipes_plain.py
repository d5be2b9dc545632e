"""A plain loop, on one process or on several: what differs from a single network is marked.

``python examples/recipes_plain.py``, or ``torchrun --nproc-per-node 2 examples/recipes_plain.py``.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import distributed, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler

import packify


def main(reference: nn.Module, train: Dataset[Any], test: Dataset[Any], epochs: int = 2) -> packify.Evaluation:
    """Pack, train, evaluate."""
    several = "RANK" in os.environ  # torchrun says so
    if several:
        distributed.init_process_group("gloo")
    x = torch.stack([train[0][0], train[1][0]])
    packed = packify.pack(reference, x, alpha=2, num_estimators=4, seed=0, average="probs")  # the same seed on every process
    network = nn.parallel.DistributedDataParallel(packed) if several else packed
    sampler: Any = DistributedSampler(train) if several else None  # type: ignore[arg-type] # it has a length
    loader = DataLoader(train, 32, sampler=sampler, shuffle=sampler is None, drop_last=True)
    criterion = packify.EnsembleLoss(nn.CrossEntropyLoss(label_smoothing=0.1))  # each member's loss, summed
    optimiser = torch.optim.SGD(network.parameters(), 0.02, momentum=0.9)
    for epoch in range(epochs):
        if sampler is not None:
            sampler.set_epoch(epoch)
        network.train()
        for images, labels in loader:
            optimiser.zero_grad()
            criterion(network(images), labels).backward()  # "(m b) k" and "b"
            packify.clip_grad_norm_(network, 1.0)  # per member
            optimiser.step()
    found: packify.Evaluation = packify.evaluate(packed, DataLoader(test, 64))
    if several:
        distributed.destroy_process_group()
    return found


if __name__ == "__main__":
    from train_data import open_data

    torch.manual_seed(0)
    data = open_data("generated", (3, 16, 16))
    print(main(packify.load_reference("resnet18", num_classes=data.classes), data.train, data.test))
