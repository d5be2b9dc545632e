"""Starting from weights that exist: a Packed-Ensemble of a large ViT out of smaller siblings, and inherited channels.

A member of vit_small at alpha / M = 1/2 *is* vit_tiny (of vit_base, vit_small): its heads keep their size, and there are half as many. So M
trained siblings are a trained Packed-Ensemble of the larger network, with no training at all. And where only the large network is trained,
``weights="inherit"`` gives each member a subset of its channels: compared here with a fresh start at equal epochs.

Nothing is downloaded: shallow siblings are trained for a few epochs on scikit-learn's digits, drawn larger. With checkpoints of your own:
``python examples/pretrained.py --large vit_base_patch16_224 --sibling vit_small_patch16_224 --depth 12 --members a.safetensors b.pth``
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import packify

SIZE, BATCH = 32, 64
Batches = list[tuple[Tensor, Tensor]]


def data(samples: int) -> tuple[Batches, Batches]:
    """Digits of 32 x 32 pixels, to train and to test on."""
    digits = load_digits()
    images = F.interpolate(torch.tensor(digits.images).float()[:, None] / 8 - 1, (SIZE, SIZE), mode="bilinear")
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[:samples]
    train, test = order[: samples * 3 // 4], order[samples * 3 // 4 :]
    batches = [list(zip(images[rows].split(BATCH), labels[rows].split(BATCH), strict=True)) for rows in (train, test)]
    return batches[0], batches[1]


def vit(name: str, depth: int, seed: int = 0) -> nn.Module:
    """A timm ViT for these images, `depth` blocks deep."""
    torch.manual_seed(seed)
    return packify.load_reference(name, num_classes=10, in_chans=1, input_size=(1, SIZE, SIZE), args={"depth": depth, "patch_size": 8})


def train(network: nn.Module, batches: Batches, epochs: int, seed: int = 0) -> nn.Module:
    """AdamW with a cosine schedule; a packed network trains each member as it would alone."""
    members = network.num_estimators if isinstance(network, packify.PackedNetwork) else 1
    criterion = packify.EnsembleLoss(nn.CrossEntropyLoss(), num_estimators=members)
    optimiser = torch.optim.AdamW(network.parameters(), 5e-4, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * len(batches))
    generator = torch.Generator().manual_seed(seed)
    network.train()
    for _ in range(epochs):
        for number in torch.randperm(len(batches), generator=generator).tolist():
            images, labels = batches[number]
            optimiser.zero_grad()
            criterion(network(images), labels).backward()
            optimiser.step()
            schedule.step()
    return network.eval()


def from_siblings(large: nn.Module, sibling: nn.Module, files: list[Path], x: Tensor) -> packify.PackedNetwork:
    """PE-(M / 2, M, 1) of `large` whose members are the trained siblings in `files`."""
    members = len(files)
    packed = packify.pack(large, x, alpha=members / 2, num_estimators=members, unused="keep", average="probs")
    ensemble = packify.pack_members(files, x, model=sibling, average="probs")
    packed.load_state_dict(ensemble.state_dict())  # the same names and shapes: a member of the large network is the sibling
    return packed.eval()


def table(found: packify.Comparison) -> str:
    """In Markdown."""
    lines = ["| network | members | accuracy | NLL | ECE |", "|---|---|---|---|---|"]
    for name, one in found.evaluations.items():
        lines.append(f"| {name} | {one.num_estimators} | {one.accuracy:.4f} | {one.nll:.4f} | {one.ece:.4f} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> tuple[packify.Comparison, packify.Comparison]:
    """Both ways to start."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", default="vit_small_patch16_224")
    parser.add_argument("--sibling", default="vit_tiny_patch16_224", help="half as wide as the large one")
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--members", type=Path, nargs="*", help="trained checkpoints of the sibling")
    parser.add_argument("--epochs", type=int, default=5, help="of what is trained here")
    parser.add_argument("--fine-tune", type=int, default=1, help="epochs after inheriting, and of the fresh start")
    parser.add_argument("--samples", type=int, default=1797)
    given = parser.parse_args(argv)
    batches, test = data(given.samples)
    x = batches[0][0]

    with tempfile.TemporaryDirectory() as folder:
        files = given.members or [Path(folder) / f"sibling{number}.safetensors" for number in range(2)]
        for number, file in enumerate(() if given.members else files):
            save_file(train(vit(given.sibling, given.depth, number), batches, given.epochs, number).state_dict(), file)
        siblings = packify.load_members(vit(given.sibling, given.depth), files)
        packed = from_siblings(vit(given.large, given.depth), vit(given.sibling, given.depth), files, x)
    known = packify.compare({"one sibling": siblings[0], "siblings apart": siblings, f"packed {given.large}": packed}, test)
    print(f"A Packed-Ensemble of {given.large} out of {len(siblings)} trained {given.sibling}:\n{table(known)}\n")

    large = train(vit(given.large, given.depth), batches, given.epochs)
    started = {}
    for weights in ("inherit", "fresh"):
        ensemble = packify.pack(large, x, alpha=2, num_estimators=4, weights=weights, average="probs")
        started[f"{weights}, {given.fine_tune} of {given.epochs} epochs"] = train(ensemble, batches, given.fine_tune)
    compared = packify.compare({f"{given.large}, {given.epochs} epochs": large, **started}, test)
    print(f"Members that inherit channels of the trained {given.large}, and fresh ones:\n{table(compared)}")
    return known, compared


if __name__ == "__main__":
    main()
