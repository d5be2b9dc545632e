"""A packed network under Lightning: what differs from a single network is marked.

``pip install lightning``, then ``python examples/recipes_lightning.py`` trains on generated images.
"""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import packify


class PackedModule(lightning.LightningModule):
    """Trains every member as it would train alone, and validates their average."""

    def __init__(self, packed: packify.PackedNetwork, lr: float = 0.05) -> None:
        super().__init__()
        self.packed, self.lr = packed, lr
        self.criterion = packify.EnsembleLoss(nn.CrossEntropyLoss(), num_estimators=packed.num_estimators)  # each member's loss, summed

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        images, labels = batch
        loss: Tensor = self.criterion(self.packed(images), labels)  # "(m b) k" and "b": targets are not repeated
        self.log("loss", loss.detach() / self.packed.num_estimators)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        images, labels = batch
        logits = self.packed(images)  # in evaluation mode the ensemble's logits, "b k"
        self.log_dict({"nll": nn.functional.cross_entropy(logits, labels), "accuracy": (logits.argmax(1) == labels).float().mean()})

    def configure_optimizers(self) -> Any:
        optimiser = torch.optim.SGD(self.parameters(), self.lr, momentum=0.9)
        return [optimiser], [torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.trainer.max_epochs or 1)]

    def configure_gradient_clipping(self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None) -> None:
        if gradient_clip_val:
            packify.clip_grad_norm_(self.packed, gradient_clip_val)  # per member: one norm for all would couple them


def main(reference: nn.Module, train: DataLoader[Any], test: DataLoader[Any], epochs: int = 2, **options: Any) -> packify.Evaluation:
    """Pack, fit, evaluate."""
    packed = packify.pack(reference, next(iter(train))[0], alpha=2, num_estimators=4, average="probs")
    trainer = lightning.Trainer(max_epochs=epochs, gradient_clip_val=1.0, **options)
    trainer.fit(PackedModule(packed), train, test)
    found: packify.Evaluation = packify.evaluate(packed, test)
    return found


if __name__ == "__main__":
    from train_data import open_data

    data = open_data("generated", (3, 16, 16))
    network = packify.load_reference("resnet18", num_classes=data.classes)
    print(main(network, DataLoader(data.train, 64, shuffle=True), DataLoader(data.test, 64)))
