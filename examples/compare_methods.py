"""The paper's six methods on scikit-learn's digits, from one recorded network: a table like Table 1 and a picture like Figure 1.

The digits 0 to 6 are learned; 7, 8 and 9 are out of distribution. Every method trains for the same number of epochs from several seeds.
The tables show means over the seeds, with standard deviations; the picture shows accuracy against images per second, areas are parameters.

Run it: ``python examples/compare_methods.py --out methods`` (scikit-learn and matplotlib needed; under 8 minutes on 2 cores)
With ``--quick`` one seed and one epoch show that everything runs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import packify

sys.path.insert(0, str(Path(__file__).parent))
import digits

M = 4
CRITERIA = ("max_softmax", "mutual_information", "entropy", "max_logit")
Make = Callable[[packify.Recording, int], nn.Module]
METHODS: dict[str, Make] = {
    "Single": lambda _recording, _seed: digits.network(),
    "BatchEnsemble": lambda recording, seed: recording.batch_ensemble(num_estimators=M, factors="signs", seed=seed),
    "MIMO": lambda recording, seed: recording.mimo(num_estimators=M, rho=0.5, batch_repetitions=2, seed=seed),
    "Masksembles": lambda recording, seed: recording.masksembles(num_estimators=M, scale=2.0, seed=seed),
    "Packed-Ensembles": lambda recording, seed: recording.pack(alpha=2, num_estimators=M, gamma=1, seed=seed),
    "Deep Ensembles": lambda recording, seed: recording.deep_ensemble(num_estimators=M, seed=seed),
}


@dataclass(frozen=True)
class Run:
    """One method from one seed.

    Attributes:
        evaluation: metrics, out-of-distribution scores, diversity.
        params: parameters.
        mult_adds: of one prediction of all members.
        training: CPU seconds of training.
        images_per_second: at inference, in batches of 64.
    """

    evaluation: packify.Evaluation
    params: int
    mult_adds: int
    training: float
    images_per_second: float


def train(model: nn.Module, batches: digits.Batches, epochs: int, seed: int) -> float:
    """CPU seconds of SGD with momentum and a cosine schedule. A step has each sample once, for every member that has its own weights."""
    members = getattr(model, "num_estimators", 1)
    mimo = getattr(model, "method", "") == "mimo"
    loss_of = packify.EnsembleLoss(nn.CrossEntropyLoss(), num_estimators=members if mimo else None)
    if isinstance(model, packify.SharedNetwork):  # shared weights receive the gradients of all members: their mean keeps the step's size
        loss_of = packify.EnsembleLoss(nn.CrossEntropyLoss(), "mean", num_estimators=members if mimo else None)
    optimiser = torch.optim.SGD(packify.parameter_groups(model, lr=0.05, weight_decay=5e-4), momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * len(batches))
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    generator = torch.Generator().manual_seed(seed)
    start = time.process_time()
    model.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(images), generator=generator).split(digits.BATCH):
            x, y = images[chosen], labels[chosen]
            if mimo:
                x, y = model.training_batch(x, y, generator=generator)
            optimiser.zero_grad()
            loss_of(model(x), y).backward()
            optimiser.step()
            schedule.step()
    model.eval()
    return time.process_time() - start


def speed(model: nn.Module, repeats: int) -> float:
    """Images per CPU second of inference, the best of a few runs."""
    x = torch.rand(digits.BATCH, 1, 8, 8)
    with torch.inference_mode():
        model(x)
        seconds = []
        for _ in range(repeats):
            start = time.process_time()
            model(x)
            seconds.append(time.process_time() - start)
    return len(x) / max(min(seconds), 1e-9)


def one_seed(seed: int, epochs: int, quick: bool) -> dict[str, Run]:
    """Every method from one seed."""
    batches, test, _, unseen = digits.data(seed)
    if quick:
        batches, test, unseen = batches[:2], test[:1], unseen[:1]
    example = torch.zeros(2, 1, 8, 8)
    costs = packify.record(digits.network(), example).method_budgets(alpha=2, num_estimators=M).networks().values()
    found = {}
    for (name, make), cost in zip(METHODS.items(), costs, strict=True):
        torch.manual_seed(seed)
        model = make(packify.record(digits.network(), example), seed)
        seconds = train(model, batches, epochs, seed)
        evaluation = packify.evaluate(model, test, ood=unseen)
        params = sum(parameter.numel() for parameter in model.parameters())
        found[name] = Run(evaluation, params, cost.mult_adds, seconds, speed(model, 2 if quick else 20))
    return found


def compare(seeds: int, epochs: int, quick: bool) -> dict[str, list[Run]]:
    """Every method from every seed."""
    found: dict[str, list[Run]] = {name: [] for name in METHODS}
    for seed in range(seeds):
        for name, run in one_seed(seed, epochs, quick).items():
            found[name].append(run)
        print(f"seed {seed} done", flush=True)
    return found


COLUMNS: dict[str, tuple[str, Callable[[Run], float]]] = {
    "acc %": ("{:.1f}", lambda run: 100 * run.evaluation.accuracy),
    "NLL": ("{:.3f}", lambda run: run.evaluation.nll),
    "ECE %": ("{:.2f}", lambda run: 100 * run.evaluation.ece),
    "AUPR %": ("{:.1f}", lambda run: 100 * run.evaluation.ood.max_softmax.aupr),
    "AUC %": ("{:.1f}", lambda run: 100 * run.evaluation.ood.max_softmax.auroc),
    "FPR95 %": ("{:.1f}", lambda run: 100 * run.evaluation.ood.max_softmax.fpr95),
    "disagreement": ("{:.3f}", lambda run: run.evaluation.disagreement),
    "params k": ("{:.0f}", lambda run: run.params / 1e3),
    "Mult-Adds M": ("{:.1f}", lambda run: run.mult_adds / 1e6),
    "training CPU s": ("{:.1f}", lambda run: run.training),
    "images / CPU s": ("{:.0f}", lambda run: run.images_per_second),
}


def table(found: dict[str, list[Run]]) -> str:
    """Means over the seeds, in Markdown, with deviations of what training makes different."""
    lines = ["| | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, runs in found.items():
        cells = []
        for form, value in COLUMNS.values():
            values = [value(run) for run in runs]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(form.format(statistics.mean(values)) + (f" ± {form.format(spread)}" if float(form.format(spread)) else ""))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def detection_table(found: dict[str, list[Run]]) -> str:
    """AUPR, AUC and FPR95 of unseen digits by the four criteria, means over the seeds, in percent."""
    lines = ["| AUPR / AUC / FPR95 % | " + " | ".join(CRITERIA) + " |", "|---" * (len(CRITERIA) + 1) + "|"]
    for name, runs in found.items():
        cells = []
        for criterion in CRITERIA:
            scores: list[Any] = [getattr(run.evaluation.ood, criterion) for run in runs]
            means = [100 * statistics.mean(getattr(score, what) for score in scores) for what in ("aupr", "auroc", "fpr95")]
            cells.append(" / ".join(f"{mean:.1f}" for mean in means))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(found: dict[str, list[Run]], path: Path) -> None:
    """Accuracy against images per second; the area of a disc is its method's number of parameters, bars are deviations over the seeds."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.subplots()
    single = found["Single"][0].params
    for number, (name, runs) in enumerate(found.items()):
        x = statistics.mean(run.images_per_second for run in runs)
        accuracies = [100 * run.evaluation.accuracy for run in runs]
        y, spread = statistics.mean(accuracies), statistics.stdev(accuracies) if len(runs) > 1 else 0.0
        axes.scatter(x, y, s=400 * runs[0].params / single, color=f"C{number}", alpha=0.5, zorder=3)
        axes.errorbar(x, y, spread, fmt=".", color=f"C{number}", capsize=3, linewidth=1, zorder=4)
        axes.plot([], [], "o", color=f"C{number}", alpha=0.5, label=f"{name}, {runs[0].params / 1e3:,.0f} k")
    axes.set_xscale("log")
    axes.margins(0.15, 0.2)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_formatter(StrMethodFormatter("{x:,.0f}") if axes.get_xlim()[1] < 10 * axes.get_xlim()[0] else NullFormatter())
    axes.set_xlabel("images per CPU second at inference")
    axes.set_ylabel("accuracy (%)")
    axes.grid(color="0.92", which="both")
    figure.legend(loc="outside lower center", ncols=3, title="areas: parameters")
    figure.savefig(path, dpi=150)


def main(arguments: list[str] | None = None) -> None:
    """Train, evaluate, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--quick", action="store_true", help="one seed, one epoch, little data")
    parser.add_argument("--out", type=Path, default=Path("methods"), help="the picture is written to OUT.png")
    given = parser.parse_args(arguments)
    found = compare(1 if given.quick else given.seeds, 1 if given.quick else given.epochs, given.quick)
    print("\n" + table(found))
    print("\n" + detection_table(found))
    draw(found, given.out.with_suffix(".png"))
    print("\n" + given.out.with_suffix(".png").name)


if __name__ == "__main__":
    main()
