"""timm's own train script with a packed network: the lines of its `train.py` that change, in a loop made of the same parts.

In timm's `train.py` four places change (version 1.0):

    model = create_model(...)
    data_config = resolve_data_config(vars(args), model=model)
  + model = packify.pack(model, torch.zeros(2, *data_config["input_size"]), alpha=2, num_estimators=4, average="probs")
    ...
  + train_loss_fn = packify.EnsembleLoss(train_loss_fn, num_estimators=model.num_estimators)
    ...
  - dispatch_clip_grad(model_parameters(model, ...), value=args.clip_grad, mode=args.clip_mode)
  + packify.clip_grad_norm_(model, args.clip_grad)

`validate` stays as it is: in evaluation mode the network returns the ensemble's logits. Optimisers that divide by a norm over a whole
tensor (LARS, LAMB, Muon) couple the members; SGD, Adam and their like do not. Run it: ``python examples/recipes_timm.py``
"""

from __future__ import annotations

from typing import Any

import torch
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import AverageMeter, ModelEmaV3
from torch import nn
from torch.utils.data import DataLoader

import packify


def main(reference: nn.Module, train: DataLoader[Any], test: DataLoader[Any], classes: int, epochs: int = 2) -> packify.Evaluation:
    """Timm's loop: mixup, AdamW, cosine schedule, average of weights."""
    model = packify.pack(reference, next(iter(train))[0], alpha=2, num_estimators=4, average="probs")  # changed
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05)
    scheduler, epochs = create_scheduler_v2(optimizer, sched="cosine", num_epochs=epochs, warmup_epochs=0)
    model_ema = ModelEmaV3(model, decay=0.9)
    mixup_fn = Mixup(mixup_alpha=0.2, num_classes=classes)
    train_loss_fn = packify.EnsembleLoss(SoftTargetCrossEntropy(), num_estimators=model.num_estimators)  # changed
    losses = AverageMeter()
    for epoch in range(epochs):
        model.train()
        for number, (images, labels) in enumerate(train):
            images, labels = mixup_fn(images, labels)
            output = model(images)
            loss = train_loss_fn(output, labels)
            losses.update(loss.item() / model.num_estimators, images.size(0))
            optimizer.zero_grad()
            loss.backward()
            packify.clip_grad_norm_(model, 1.0)  # changed
            optimizer.step()
            model_ema.update(model, step=epoch * len(train) + number)
        scheduler.step(epoch + 1)
    found: packify.Evaluation = packify.evaluate(model_ema.module, test)
    return found


if __name__ == "__main__":
    from train_data import open_data

    torch.manual_seed(0)
    data = open_data("generated", (3, 16, 16))
    network = packify.load_reference("resnet18", num_classes=data.classes)
    print(main(network, DataLoader(data.train, 64, shuffle=True, drop_last=True), DataLoader(data.test, 64), data.classes))
