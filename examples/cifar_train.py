"""A row of the paper's Table 1: ResNet-18, ResNet-50 or Wide ResNet 28-10 on CIFAR-10 or CIFAR-100, with SVHN out of distribution.

    python examples/cifar.py resnet18 --data CIFAR10 --root data --download
    python examples/cifar.py wide_resnet28_10 --data CIFAR100 --method single --device cuda

The recipe is the paper's Table 4 as its authors' code has it: SGD with Nesterov momentum 0.9, weight decay 5e-4, batches of 128, crops out
of 4 pixels of padding and mirror images; ResNet-18 for 75 epochs from 0.05, a tenth at epochs 25 and 50; the others for 200 epochs from
0.1, a fifth at epochs 60, 120 and 160. Packed-Ensembles are (2, 4, 2), of Wide ResNet (2, 4, 1). With ``--validation N`` the weights of the
highest accuracy on N training images that are held out are kept, otherwise the last ones.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cifar
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset
from torchvision import datasets
from torchvision.transforms import v2

import packify

_MEAN, _STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


@dataclass(frozen=True)
class Recipe:
    """How one network is trained.

    Attributes:
        epochs: passes over the data.
        lr: learning rate at the beginning.
        milestones: epochs after which it is multiplied by `factor`.
        gamma: subgroups of the paper's Packed-Ensemble of it.
    """

    epochs: int
    lr: float
    milestones: tuple[int, ...]
    factor: float
    gamma: int = 2


RECIPES = {
    "resnet18": Recipe(75, 0.05, (25, 50), 0.1),
    "resnet50": Recipe(200, 0.1, (60, 120, 160), 0.2),
    "wide_resnet28_10": Recipe(200, 0.1, (60, 120, 160), 0.2, gamma=1),
}


@dataclass(frozen=True)
class Data:
    """Training images with random changes, the same without, test images, images of none of the classes."""

    train: Dataset[Any]
    plain: Dataset[Any]
    test: Dataset[Any]
    ood: Dataset[Any]
    classes: int


def open_data(name: str, root: Path, download: bool) -> Data:
    """CIFAR-10 or CIFAR-100, and SVHN."""
    normal = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(_MEAN, _STD)]
    plain, changed = v2.Compose(normal), v2.Compose([v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(), *normal])
    kind = getattr(datasets, name)
    train = kind(root, train=True, transform=changed, download=download)
    return Data(
        train,
        kind(root, train=True, transform=plain, download=download),
        kind(root, train=False, transform=plain, download=download),
        datasets.SVHN(root, split="test", transform=plain, download=download),
        len(train.classes),
    )


def generated_data(samples: int = 64, classes: int = 10) -> Data:
    """Noise around one picture per class: to see that everything runs."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(classes, 3, 32, 32, generator=generator)
    labels = torch.arange(samples) % classes
    images = [pictures[labels] + torch.randn(samples, 3, 32, 32, generator=generator) for _ in range(2)]
    train, test = (TensorDataset(each, labels) for each in images)
    return Data(train, train, test, TensorDataset(torch.randn(samples, 3, 32, 32, generator=generator), labels), classes)


def build(name: str, method: str, classes: int, seed: int) -> nn.Module:
    """A single network, the paper's Packed-Ensemble of it, or a packed Deep Ensemble: four whole networks in one."""
    torch.manual_seed(seed)
    network = getattr(cifar, name)(num_classes=classes)
    if method == "single":
        return network
    spec = {"alpha": 2, "gamma": RECIPES[name].gamma} if method == "packed" else {"alpha": 4}
    return packify.pack(network, torch.zeros(2, 3, 32, 32), **spec, num_estimators=4, seed=seed, average="probs")


def train(network: nn.Module, recipe: Recipe, epochs: int, data: Data, given: argparse.Namespace) -> nn.Module:
    """The recipe, for as many epochs; milestones move with their number."""
    indices = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(given.seed)).tolist()  # type: ignore[arg-type]
    kept, held_out = indices[given.validation :], indices[: given.validation]
    torch.manual_seed(given.seed)
    loader = DataLoader(
        Subset(data.train, kept), given.batch_size, shuffle=True, num_workers=given.workers, drop_last=len(kept) > given.batch_size
    )
    members = network.num_estimators if isinstance(network, packify.PackedNetwork) else 1
    criterion: Callable[[Tensor, Tensor], Tensor] = packify.EnsembleLoss(nn.CrossEntropyLoss(), num_estimators=members)
    optimiser = torch.optim.SGD(network.parameters(), recipe.lr, momentum=0.9, weight_decay=5e-4, nesterov=True)
    milestones = [round(epoch * epochs / recipe.epochs) for epoch in recipe.milestones]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, milestones, recipe.factor)
    kind = torch.device(given.device).type
    best, weights = -1.0, None
    for epoch in range(epochs):
        network.train()
        for images, labels in loader:
            images, labels = images.to(given.device, non_blocking=True), labels.to(given.device, non_blocking=True)
            with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
                outputs = network(images)
            optimiser.zero_grad()
            loss = criterion(outputs.float(), labels)
            loss.backward()
            optimiser.step()
        schedule.step()
        accuracy = packify.evaluate(network, loader_of(Subset(data.plain, held_out), given)).accuracy if held_out else 0.0
        if held_out and accuracy > best:
            best, weights = accuracy, copy.deepcopy(network.state_dict())
        print(
            f"epoch {epoch + 1} of {epochs}: loss of a member {loss.item() / members:.4f}"
            + (f", accuracy {accuracy:.4f}" if held_out else ""),
            flush=True,
        )
    if weights is not None:
        network.load_state_dict(weights)
    return network.eval()


def loader_of(data: Dataset[Any], given: argparse.Namespace) -> DataLoader[Any]:
    """Batches to evaluate on."""
    return DataLoader(data, given.batch_size, num_workers=given.workers)


def row(name: str, found: packify.Evaluation, params: int) -> str:
    """The columns of Table 1, in Markdown; detection by the maximum softmax, as in the paper."""
    ood = found.ood.max_softmax
    percent = (100 * found.accuracy, 100 * ood.aupr, 100 * ood.auroc, 100 * ood.fpr95)
    cells = [f"{percent[0]:.1f}", f"{found.nll:.3f}", f"{found.ece:.3f}", *(f"{each:.1f}" for each in percent[1:]), f"{params / 1e6:.2f} M"]
    head = "| | Acc | NLL | ECE | AUPR | AUC | FPR95 | parameters |\n|---|---|---|---|---|---|---|---|"
    return f"{head}\n| {name} | " + " | ".join(cells) + " |"


def main(argv: list[str] | None = None) -> packify.Evaluation:
    """Train, evaluate, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=RECIPES)
    parser.add_argument("--data", choices=("CIFAR10", "CIFAR100", "generated"), default="CIFAR10")
    parser.add_argument("--method", choices=("packed", "single", "deep"), default="packed")
    parser.add_argument("--root", type=Path, default=Path("data"))
    parser.add_argument("--download", action="store_true")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="folder for the packed network")
    for name, default in (("seed", 0), ("batch-size", 128), ("workers", 0), ("validation", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args(argv)
    recipe = RECIPES[given.network]
    data = generated_data() if given.data == "generated" else open_data(given.data, given.root, given.download)
    network = build(given.network, given.method, data.classes, given.seed).to(given.device)
    train(network, recipe, given.epochs or recipe.epochs, data, given)
    found: packify.Evaluation = packify.evaluate(network, loader_of(data.test, given), ood=loader_of(data.ood, given))
    print(row(f"{given.method} {given.network}, {given.data}", found, sum(each.numel() for each in network.parameters())))
    if given.out is not None and isinstance(network, packify.PackedNetwork):
        packify.save(network, given.out, force=True)
    return found


if __name__ == "__main__":
    main()
