"""A packed network under Hugging Face's Trainer: what differs from a single network is marked.

``pip install transformers accelerate``, then ``python examples/recipes_transformers.py`` trains a small ViT on generated images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

import packify


class PackedTrainer(Trainer):
    """Trains every member as it would train alone, and evaluates their average."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.model_accepts_loss_kwargs = False  # the loss is a mean, to be divided by the number of steps that are accumulated

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **more: Any) -> Any:
        inputs = dict(inputs)
        labels = inputs.pop("labels")  # the network is recorded without them: its loss would mix the members
        outputs = model(**inputs)  # logits "(m b) k" in training mode, the ensemble's "b k" in evaluation mode
        loss = packify.EnsembleLoss(nn.CrossEntropyLoss())(outputs.logits, labels)  # M is told by the lengths
        return (loss, outputs) if return_outputs else loss


class Pictures(Dataset[Any]):
    """Images and labels as the Trainer wants them."""

    def __init__(self, data: Dataset[Any]) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type] # it has a length

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, label = self.data[index]
        return {"pixel_values": image, "labels": label}


def main(train: Dataset[Any], test: Dataset[Any], classes: int, size: int, folder: Path, epochs: int = 2) -> dict[str, float]:
    """Pack, train, evaluate."""
    config = ViTConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, image_size=size, patch_size=4, num_labels=classes
    )
    reference = ViTForImageClassification(config)
    example = {"pixel_values": torch.zeros(2, 3, size, size)}
    packed = packify.pack(reference, example, alpha=2, num_estimators=4, average={"logits": "probs"})
    settings = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=epochs,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=64,
        learning_rate=1e-3,
        max_grad_norm=0,  # a norm over all gradients would couple the members: packify.clip_grad_norm_ clips each by its own
        label_names=["labels"],
        remove_unused_columns=False,  # forward takes what it was recorded with
        report_to=[],
        save_strategy="epoch",
        use_cpu=not torch.cuda.is_available(),
    )
    trainer = PackedTrainer(model=packed, args=settings, train_dataset=Pictures(train), eval_dataset=Pictures(test))
    trainer.train()
    found: dict[str, float] = trainer.evaluate()
    return found


if __name__ == "__main__":
    from train_data import open_data

    data = open_data("generated", (3, 16, 16))
    print(main(data.train, data.test, data.classes, 16, Path("transformers-run")))
