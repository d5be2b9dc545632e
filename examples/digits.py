"""Packed-Ensembles against one network and a Deep Ensemble on scikit-learn's digits: accuracy, calibration, shift, unseen classes.

The digits 0 to 6 are learned; 7, 8 and 9 are out of distribution; the shift is Gaussian noise. Every network is trained by the same
recipe from several seeds, and the means and deviations are printed as a table. The picture is of the first seed: calibration and rejection
under noise, and the entropy of known and unseen classes.

Run it: ``python examples/digits.py --out digits`` (scikit-learn and matplotlib needed)
With ``--ablation`` alpha, gamma and M are varied too, as in Figures 6 and 7 of the paper.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import packify

CLASSES = 7
BATCH = 64
Batches = list[tuple[Tensor, Tensor]]


def network(width: int = 64) -> nn.Module:
    """A small convolutional classifier of 8 x 8 images, 260 k parameters at width 64."""

    def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())

    model = nn.Sequential()
    model.features = nn.Sequential(
        block(1, width, 1), block(width, width, 1), block(width, 2 * width, 2), block(2 * width, 2 * width, 1), nn.AdaptiveAvgPool2d(1)
    )
    model.flatten = nn.Flatten()
    model.classifier = nn.Linear(2 * width, CLASSES)
    return model


def data(seed: int) -> tuple[Batches, Batches, Batches, Batches]:
    """Batches to train on, to test on, of noisy test images, and of unseen classes."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    generator = torch.Generator().manual_seed(seed)
    known = torch.randperm(int((labels < CLASSES).sum()), generator=generator)
    inside, outside = images[labels < CLASSES][known], images[labels >= CLASSES]
    targets = labels[labels < CLASSES][known]
    cut = len(inside) // 2
    noisy = inside[cut:] + 0.35 * torch.randn(inside[cut:].shape, generator=generator)

    def batches(x: Tensor, y: Tensor) -> Batches:
        return list(zip(x.split(BATCH), y.split(BATCH), strict=True))

    test = targets[cut:]
    return (
        batches(inside[:cut], targets[:cut]),
        batches(inside[cut:], test),
        batches(noisy, test),
        batches(outside, outside.new_zeros(len(outside))),
    )


def train(model: nn.Module, batches: Batches, epochs: int, seed: int) -> float:
    """CPU seconds of SGD with momentum and a cosine schedule; a packed network trains each member as it would alone."""
    loss_of: Callable[[Tensor, Tensor], Tensor] = nn.CrossEntropyLoss()
    if isinstance(model, packify.PackedNetwork):
        loss_of = packify.EnsembleLoss(nn.CrossEntropyLoss())
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * len(batches))
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    generator = torch.Generator().manual_seed(seed)
    start = time.process_time()
    model.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(images), generator=generator).split(BATCH):
            optimiser.zero_grad()
            loss_of(model(images[chosen]), labels[chosen]).backward()
            optimiser.step()
            schedule.step()
    model.eval()
    return time.process_time() - start


def packed(seed: int, alpha: float, members: int, gamma: int) -> packify.PackedNetwork:
    """A Packed-Ensemble of the network; on so few channels a group may be small."""
    torch.manual_seed(seed)
    return packify.pack(
        network(), torch.zeros(2, 1, 8, 8), alpha=alpha, num_estimators=members, gamma=gamma, min_channels_per_group=8, seed=seed
    )


def methods(seed: int, batches: Batches, epochs: int) -> Iterator[tuple[str, nn.Module | list[nn.Module], int, float]]:
    """Name, trained network, parameters and CPU seconds of training of each method."""
    networks = []
    for number in range(4):
        torch.manual_seed(100 * seed + number)
        networks.append(network())
    seconds = [train(model, batches, epochs, 100 * seed + number) for number, model in enumerate(networks)]
    params = sum(parameter.numel() for parameter in networks[0].parameters())
    yield "single network", networks[0], params, seconds[0]
    for gamma in (1, 2):
        model = packed(seed, 2, 4, gamma)
        yield f"packed (2, 4, {gamma})", model, model.report.packed_params, train(model, batches, epochs, seed)
    yield "Deep Ensemble of 4", networks, 4 * params, sum(seconds)


_COLUMNS: dict[str, tuple[str, Callable[[packify.Evaluation], float]]] = {
    "acc %": ("{:.1f}", lambda found: 100 * found.accuracy),
    "NLL": ("{:.3f}", lambda found: found.nll),
    "ECE %": ("{:.2f}", lambda found: 100 * found.ece),
    "acc % noise": ("{:.1f}", lambda found: 100 * found.shift.accuracy),
    "NLL noise": ("{:.3f}", lambda found: found.shift.nll),
    "ECE % noise": ("{:.2f}", lambda found: 100 * found.shift.ece),
    "AUROC OOD": ("{:.3f}", lambda found: found.ood.entropy.auroc),
}


def table(found: dict[str, list[packify.Evaluation]], costs: dict[str, tuple[int, float]]) -> str:
    """Means and deviations over the seeds, in Markdown."""
    lines = ["| | " + " | ".join(_COLUMNS) + " | parameters | training CPU s |", "|---" * (len(_COLUMNS) + 3) + "|"]
    for name, evaluations in found.items():
        cells = []
        for form, value in _COLUMNS.values():
            values = [value(evaluation) for evaluation in evaluations]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{form.format(statistics.mean(values))} ± {form.format(spread)}")
        params, seconds = costs[name]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {params / 1e3:.0f} k | {seconds:.1f} |")
    return "\n".join(lines)


Row = tuple[float, list[float], list[float]]


def ablation(batches: tuple[Batches, ...], epochs: int, seeds: int) -> dict[str, list[Row]]:
    """Per varied number: its value, and accuracy and NLL under noise of each seed."""
    varied = {"alpha": [(a, 4, 1) for a in (1, 2, 3, 4)], "gamma": [(2, 4, g) for g in (1, 2, 4)], "M": [(2, m, 1) for m in (1, 2, 4, 8)]}
    found: dict[str, list[Row]] = {}
    for position, (name, specs) in enumerate(varied.items()):
        for alpha, members, gamma in specs:
            shifts = []
            for seed in range(seeds):
                model = packed(seed, alpha, members, gamma)
                train(model, batches[0], epochs, seed)
                shifts.append(packify.evaluate(model, batches[2]))
            value = (alpha, gamma, members)[position]
            accuracies, losses = [100 * shift.accuracy for shift in shifts], [shift.nll for shift in shifts]
            found.setdefault(name, []).append((value, accuracies, losses))
            means = statistics.mean(accuracies), statistics.mean(losses)
            print(f"{name} = {value}: accuracy {means[0]:.1f} %, NLL {means[1]:.3f} under noise", flush=True)
    return found


def draw_ablation(found: dict[str, list[Row]], path: Path) -> None:
    """Accuracy and NLL under noise against each number: means over the seeds, with their deviations as bars."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    panels = figure.subplots(2, len(found), sharey="row", squeeze=False)
    for column, (name, rows) in enumerate(found.items()):
        values, accuracies, losses = zip(*rows, strict=True)
        for row, (label, heights) in enumerate((("accuracy under noise (%)", accuracies), ("NLL under noise", losses))):
            means = [statistics.mean(each) for each in heights]
            spreads = [statistics.stdev(each) if len(each) > 1 else 0.0 for each in heights]
            panels[row][column].errorbar(values, means, spreads, fmt="o-", color="black", markersize=5, linewidth=1, capsize=3)
            panels[row][column].set_xticks(values)
            panels[row][column].grid(color="0.92")
            if column == 0:
                panels[row][column].set_ylabel(label)
        fixed = {"alpha": "M = 4, gamma = 1", "gamma": "alpha = 2, M = 4", "M": "alpha = 2, gamma = 1"}[name]
        panels[1][column].set_xlabel(f"{name}   ({fixed})")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Train, evaluate, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path("digits"), help="pictures are written to OUT.png and OUT-ablation.png")
    parser.add_argument("--ablation", action="store_true", help="vary alpha, gamma and M too")
    given = parser.parse_args()
    found: dict[str, list[packify.Evaluation]] = {}
    costs: dict[str, tuple[int, float]] = {}
    for seed in range(given.seeds):
        batches, test, noisy, unseen = data(seed)
        for name, model, params, seconds in methods(seed, batches, given.epochs):
            found.setdefault(name, []).append(packify.evaluate(model, test, ood=unseen, shift=noisy))
            costs[name] = params, costs.get(name, (0, 0.0))[1] + seconds / given.seeds
        print(f"seed {seed} done", flush=True)
    print("\n" + table(found, costs))
    # of clean images nearly all are right, so calibration and rejection are drawn of noisy ones
    pictured = {name: dataclasses.replace(first.shift, ood=first.ood) for name, (first, *_) in found.items()}
    print("\n" + packify.plot_evaluation(pictured, given.out.with_suffix(".png")).name)
    if given.ablation:
        target = given.out.with_name(f"{given.out.name}-ablation.png")
        draw_ablation(ablation(data(0), given.epochs, min(given.seeds, 3)), target)
        print(target.name)


if __name__ == "__main__":
    main()
