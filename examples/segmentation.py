"""Segmentation with doubt per pixel: a U-Net on generated shapes, as one network and as a Packed-Ensemble.

Each image has discs and squares (two classes and a background) in noise. The shift is more noise; out of distribution are images of
crosses, which no training image has. The table has the metrics over pixels; the picture shows, for a few images, what was asked, what was
answered, and two kinds of doubt: the entropy of the mean prediction, and the mutual information, which is what the members disagree about.

Run it: ``python examples/segmentation.py --out segmentation.png`` (matplotlib needed)
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import packify

CLASSES = ("background", "disc", "square")
IGNORED = 255
Batches = list[tuple[Tensor, Tensor]]


class Block(nn.Module):
    """Two 3x3 convolutions with BatchNorm."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.norm2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x))))))


class UNet(nn.Module):
    """An encoder, a decoder, and what goes straight across (Ronneberger et al., 2015): ``"b 1 h w -> b k h w"``."""

    def __init__(self, width: int = 16, num_classes: int = len(CLASSES)) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.down = nn.ModuleList((Block(1, width), Block(width, 2 * width), Block(2 * width, 4 * width)))
        self.up = nn.ModuleList((Block(6 * width, 2 * width), Block(3 * width, width)))
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        across = []
        for block in self.down:
            x = block(x if not across else F.max_pool2d(x, 2))
            across.append(x)
        for block, earlier in zip(self.up, reversed(across[:-1]), strict=True):
            x = block(torch.cat((F.interpolate(x, scale_factor=2.0), earlier), 1))
        return self.head(x)


def shapes(samples: int, size: int, seed: int, noise: float = 0.35, crosses: bool = False) -> tuple[Tensor, Tensor]:
    """Images ``"b 1 h w"`` and their classes ``"b h w"``; of crosses, which have no class, only their own pixels count."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    images, labels = torch.zeros(samples, size, size), torch.full((samples, size, size), IGNORED if crosses else 0)
    for image, label in zip(images, labels, strict=True):
        for kind in (1, 2, 1 + int(torch.randint(2, (), generator=generator))):
            y, x = (torch.rand(2, generator=generator) * 0.7 + 0.15) * size
            radius = (0.1 + 0.08 * float(torch.rand((), generator=generator))) * size
            dy, dx = (rows - y).abs(), (columns - x).abs()
            if crosses:
                inside = (torch.minimum(dy, dx) < radius / 3) & (torch.maximum(dy, dx) < radius)
            else:
                inside = dy**2 + dx**2 < radius**2 if kind == 1 else torch.maximum(dy, dx) < 0.9 * radius
            image[inside] = 0.6 + 0.4 * float(torch.rand((), generator=generator))
            label[inside] = 0 if crosses else kind
    return (images + noise * torch.randn(images.shape, generator=generator))[:, None], labels


def in_batches(data: tuple[Tensor, Tensor], size: int = 8) -> Batches:
    """The same in batches."""
    return list(zip(*(each.split(size) for each in data), strict=True))


def train(model: nn.Module, batches: Batches, epochs: int) -> nn.Module:
    """Adam with a cosine schedule; a packed network trains each member as it would alone."""
    members = model.num_estimators if isinstance(model, packify.PackedNetwork) else 1
    criterion = packify.EnsembleLoss(nn.CrossEntropyLoss(), num_estimators=members)  # targets are "b h w", for all members
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * len(batches))
    model.train()
    for _ in range(epochs):
        for images, labels in batches:
            optimiser.zero_grad()
            criterion(model(images), labels).backward()
            optimiser.step()
            schedule.step()
    return model.eval()


def table(found: packify.Comparison) -> str:
    """Metrics over pixels, in Markdown."""
    lines = [
        "| network | accuracy | NLL | ECE | NLL noisier | ECE noisier | AUROC of crosses by entropy |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in found.evaluations.items():
        figures = (one.accuracy, one.nll, one.ece, one.shift.nll, one.shift.ece, one.ood.entropy.auroc)
        lines.append(f"| {name} | " + " | ".join(f"{figure:.4f}" for figure in figures) + " |")
    return "\n".join(lines)


def draw(packed: nn.Module, rows: dict[str, tuple[Tensor, Tensor]], path: Path) -> None:
    """One row per image: image, classes, prediction, entropy, mutual information."""
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    figure = Figure(figsize=(11, 2.25 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), 5, squeeze=False)
    colours = ListedColormap(["#f0f0f0", "#0072B2", "#D55E00"])
    with torch.no_grad():
        doubts = {name: packify.uncertainty(packed, image[None]) for name, (image, _) in rows.items()}
    most = max(float(doubt.mutual_information.max()) for doubt in doubts.values())
    for line, (name, (image, label)) in zip(panels, rows.items(), strict=True):
        doubt, label = doubts[name], torch.where(label == IGNORED, 0, label)
        line[0].imshow(image[0].numpy(), cmap="gray")
        line[1].imshow(label.numpy(), cmap=colours, vmin=0, vmax=2)
        line[2].imshow(doubt.prediction[0].numpy(), cmap=colours, vmin=0, vmax=2)
        scales = [line[3].imshow(doubt.entropy[0].numpy(), cmap="magma", vmin=0, vmax=1.1)]
        scales.append(line[4].imshow(doubt.mutual_information[0].numpy(), cmap="magma", vmin=0, vmax=most))
        for axes, scale in zip(line[3:], scales, strict=True):
            figure.colorbar(scale, ax=axes, shrink=0.8)
        line[0].set_ylabel(name)
    for axes, title in zip(panels[0], ("image", "classes", "prediction", "entropy (nats)", "mutual information (nats)"), strict=True):
        axes.set_title(title, fontsize=10)
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[])
    patches = [Patch(facecolor=colours(kind), edgecolor="0.6", label=name) for kind, name in enumerate(CLASSES)]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(CLASSES), frameon=False)
    figure.savefig(path, dpi=110)


def main(argv: list[str] | None = None) -> packify.Comparison:
    """Train, evaluate, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--samples", type=int, default=240)
    parser.add_argument("--size", type=int, default=32, help="pixels, a multiple of 4")
    parser.add_argument("--quick", action="store_true", help="few small images, one epoch: to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("segmentation.png"))
    given = parser.parse_args(argv)
    samples, size, epochs = (32, 16, 1) if given.quick else (given.samples, given.size, given.epochs)
    batches = in_batches(shapes(samples, size, seed=0))
    held_out, noisy, crosses = (
        shapes(max(8, samples // 4), size, 1),
        shapes(max(8, samples // 4), size, 2, noise=0.6),
        shapes(max(8, samples // 4), size, 3, crosses=True),
    )
    torch.manual_seed(0)
    single = train(UNet(), batches, epochs)
    packed = train(packify.pack(UNet(), batches[0][0], alpha=2, num_estimators=4), batches, epochs)
    networks = {"single network": single, "packed (2, 4, 1)": packed}
    found = packify.compare(networks, in_batches(held_out), shift=in_batches(noisy), ood=in_batches(crosses), ignore_index=IGNORED)
    print(table(found))
    rows = {"held out": held_out, "noisier": noisy, "crosses": crosses}
    draw(packed, {name: (images[0], labels[0]) for name, (images, labels) in rows.items()}, given.out)
    print(f"written: {given.out}")
    return found


if __name__ == "__main__":
    main()
