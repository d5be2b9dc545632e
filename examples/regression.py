"""Regression with a mean and a variance: a Gaussian head, a Packed-Ensemble of it, and a Deep Ensemble, on two sets of data.

scikit-learn's diabetes (442 patients, ten measurements), and generated houses whose price depends on income, age, rooms and place as in
the California data set, with noise that grows with the price. Out of distribution are inputs with a larger spread than any seen. The table
has the error, the negative log-likelihood and how far the coverage of central intervals is from what they promise; the picture shows that
coverage, and the error of what is kept when the least certain predictions are rejected.

Run it: ``python examples/regression.py --out regression.png`` (scikit-learn and matplotlib needed)
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from sklearn.datasets import load_diabetes
from torch import Tensor, nn
from torch.nn import functional as F

import packify

BATCH = 32
MEMBERS = 4
Batches = list[tuple[Tensor, Tensor]]


class GaussianHead(nn.Module):
    """Three layers that end in a mean and a variance, ``"b (2 d)"``: means first, then variances."""

    def __init__(self, features: int, width: int = 64, targets: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.out = nn.Linear(width, 2 * targets)

    def forward(self, x: Tensor) -> Tensor:
        mean, raw = self.out(self.body(x)).chunk(2, 1)
        return torch.cat((mean, F.softplus(raw) + 1e-4), 1)


@dataclass(frozen=True)
class Data:
    """Standardised features and targets, in batches."""

    train: Batches
    test: Batches
    far: Batches
    features: int


def diabetes(seed: int, samples: int | None = None) -> Data:
    """scikit-learn's diabetes."""
    found = load_diabetes()
    return _split(torch.tensor(found.data[:samples]).float(), torch.tensor(found.target[:samples]).float()[:, None], seed)


def houses(seed: int, samples: int = 3000) -> Data:
    """Generated houses: a price of eight features, with noise that grows with it."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda scale: scale * torch.rand(samples, generator=generator)  # noqa: E731  one feature
    income, age, rooms, bedrooms, people, household, north, east = (draw(each) for each in (10, 50, 8, 2, 3, 4, 9, 10))
    coast = torch.exp(-(((north - 0.9 * east) / 2) ** 2))
    price = 0.35 * income + 1.5 * coast + 0.12 * rooms - 0.1 * household + 0.004 * age + 0.3 * torch.sin(income)
    price = price + 0.12 * price * torch.randn(samples, generator=generator)
    return _split(torch.stack((income, age, rooms, bedrooms, people, household, north, east), 1), price[:, None], seed)


def _split(x: Tensor, y: Tensor, seed: int) -> Data:
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(x), generator=generator)
    seen, held_out = order[: len(x) * 3 // 4], order[len(x) * 3 // 4 :]
    x = (x - x[seen].mean(0)) / x[seen].std(0)
    y = (y - y[seen].mean(0)) / y[seen].std(0)
    far = 4 * torch.randn(x[held_out].shape, generator=generator)
    batches = lambda rows: list(zip(x[rows].split(BATCH), y[rows].split(BATCH), strict=True))  # noqa: E731
    return Data(batches(seen), batches(held_out), list(zip(far.split(BATCH), y[held_out].split(BATCH), strict=True)), x.shape[1])


def train(model: nn.Module, batches: Batches, epochs: int, seed: int) -> nn.Module:
    """Adam on the Gaussian negative log-likelihood; a packed network trains each member as it would alone."""
    criterion: Callable[[Tensor, Tensor], Tensor] = packify.GaussianNLL()
    if isinstance(model, packify.PackedNetwork):
        criterion = packify.EnsembleLoss(packify.GaussianNLL(), num_estimators=model.num_estimators)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3, weight_decay=1e-4)
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(x), generator=generator).split(BATCH):
            optimiser.zero_grad()
            criterion(model(x[chosen]), y[chosen]).backward()
            optimiser.step()
    return model.eval()


def methods(data: Data, epochs: int, seed: int) -> dict[str, nn.Module | list[nn.Module]]:
    """Trained networks by name."""
    networks = []
    for number in range(MEMBERS):
        torch.manual_seed(100 * seed + number)
        networks.append(train(GaussianHead(data.features), data.train, epochs, 100 * seed + number))
    packed = packify.pack(
        GaussianHead(data.features), data.train[0][0], alpha=2, num_estimators=MEMBERS, seed=seed, average="gaussian"
    )  # fmt: skip
    return {
        "single network": networks[0],
        f"packed (2, {MEMBERS}, 1)": train(packed, data.train, epochs, seed),
        f"Deep Ensemble of {MEMBERS}": networks,
    }


def table(found: dict[str, packify.Comparison]) -> str:
    """The figures in Markdown; RMSE and NLL in standardised units."""
    lines = [
        "| data | network | RMSE | NLL | calibration error | epistemic variance | AUROC of far inputs |",
        "|---|---|---|---|---|---|---|",
    ]
    for data, comparison in found.items():
        for name, one in comparison.evaluations.items():
            figures = (one.rmse, one.nll, one.calibration_error, one.epistemic, one.ood.variance.auroc)
            lines.append(f"| {data} | {name} | " + " | ".join(f"{figure:.3f}" for figure in figures) + " |")
    return "\n".join(lines)


def draw(found: dict[str, packify.Comparison], path: Path) -> None:
    """A row per data set: coverage against level, error against rejection."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.4 * len(found)), layout="constrained")
    panels = figure.subplots(len(found), 2, squeeze=False)
    styles = (("#0072B2", "-"), ("#D55E00", "--"), ("#009E73", "-."))
    for (left, right), (data, comparison) in zip(panels, found.items(), strict=True):
        left.plot([0, 1], [0, 1], color="0.6", linewidth=1)
        for (name, one), (colour, dash) in zip(comparison.evaluations.items(), styles, strict=True):
            levels, shares = [each.level for each in one.coverage], [each.coverage for each in one.coverage]
            left.plot(levels, shares, dash, color=colour, label=f"{name}: off by {one.calibration_error:.3f}, NLL {one.nll:.3f}")
            shown = len(one.rejection) * 9 // 10  # the last tenth is of a few samples
            right.plot([share / len(one.rejection) for share in range(shown)], one.rejection[:shown], dash, color=colour, label=name)
        left.set(xlabel="level of the central interval", ylabel="share of targets in it", title=f"{data}: coverage", aspect="equal")
        right.set(xlabel="share rejected, largest variance first", ylabel="RMSE of what is kept", title=f"{data}: rejection")
        right.set_ylim(bottom=0)
        for axes in (left, right):
            axes.grid(color="0.92")
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.15), borderaxespad=0)
    figure.savefig(path, dpi=120)


def main(argv: list[str] | None = None) -> dict[str, packify.Comparison]:
    """Train, evaluate, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="few samples, few epochs: to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("regression.png"))
    given = parser.parse_args(argv)
    sets = {"diabetes": diabetes(given.seed, 120 if given.quick else None), "houses": houses(given.seed, 200 if given.quick else 3000)}
    epochs = 3 if given.quick else given.epochs
    found = {
        name: packify.compare(methods(data, epochs, given.seed), data.test, kind="gaussian", ood=data.far) for name, data in sets.items()
    }
    print(table(found))
    draw(found, given.out)
    print(f"written: {given.out}")
    return found


if __name__ == "__main__":
    main()
