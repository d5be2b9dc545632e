"""The paper's six methods on noisy digits, from one recorded network: a table like Table 1 and a picture like Figure 1.

Of scikit-learn's digits, 30 images of each of 0 to 6 are learned, the others of these are tested, and 7, 8 and 9 are out of distribution.
Noise is added to all images, in training too: with all of them, and without noise, every method is right in 99 of 100 cases, and a table
says nothing. Images, noise and split are the same for all; seeds change initial weights, masks, factors and the order of images.

Every method trains for the same number of epochs. Tables show means over the seeds, with standard deviations; the picture shows accuracy
against images per second, areas are parameters. What has run is kept in OUT.jsonl, and is not run again.

Run it: ``python examples/compare_methods.py --out methods`` (scikit-learn and matplotlib needed; under 8 minutes on 2 cores)
With ``--quick`` one seed and one epoch show that everything runs.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import packify

sys.path.insert(0, str(Path(__file__).parent))
import digits

M = 4
PER_CLASS, NOISE = 30, 0.3
BATCH = 32
EXAMPLE = torch.zeros(2, 1, 8, 8)
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
        method, seed, epochs, images: what was trained, on how many images.
        figures: metrics, out-of-distribution scores and diversity, as `packify.Evaluation.row` names them.
        params: parameters.
        training: CPU seconds of training.
    """

    method: str
    seed: int
    epochs: int
    images: int
    figures: dict[str, float]
    params: int
    training: float


def data(quick: bool) -> tuple[Tensor, Tensor, digits.Batches, digits.Batches]:
    """Images and labels to train on, batches to test on and of unseen classes; the same for every seed."""
    loaded = load_digits()
    labels = torch.tensor(loaded.target)
    generator = torch.Generator().manual_seed(0)
    images = torch.tensor(loaded.images, dtype=torch.float32).unsqueeze(1) / 16
    images += NOISE * torch.randn(images.shape, generator=generator)
    order = torch.randperm(len(labels), generator=generator)
    learned = torch.cat([order[labels[order] == digit][: 5 if quick else PER_CLASS] for digit in range(digits.CLASSES)])
    tested = labels < digits.CLASSES
    tested[learned] = False
    unseen = labels >= digits.CLASSES

    def batches(chosen: Tensor) -> digits.Batches:
        every = list(zip(images[chosen].split(64), labels[chosen].split(64), strict=True))
        return every[:1] if quick else every

    return images[learned], labels[learned], batches(tested), batches(unseen)


def made(method: str, seed: int) -> nn.Module:
    """A method's network, not yet trained."""
    torch.manual_seed(seed)
    return METHODS[method](packify.record(digits.network(), EXAMPLE), seed)


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int, seed: int) -> float:
    """CPU seconds of SGD with momentum and a cosine schedule. A step has each sample once, for every member that has its own weights."""
    members = getattr(model, "num_estimators", 1)
    mimo = getattr(model, "method", "") == "mimo"
    # where members share weights, these receive the gradients of all members: their mean keeps the step's size
    over_members = "mean" if isinstance(model, packify.SharedNetwork) else "sum"
    loss_of = packify.EnsembleLoss(nn.CrossEntropyLoss(), over_members, num_estimators=members if mimo else None)
    optimiser = torch.optim.SGD(packify.parameter_groups(model, lr=0.05, weight_decay=5e-4), momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * math.ceil(len(images) / BATCH))
    generator = torch.Generator().manual_seed(seed)
    start = time.process_time()
    model.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(images), generator=generator).split(BATCH):
            x, y = images[chosen], labels[chosen]
            if mimo:
                x, y = model.training_batch(x, y, generator=generator)
            optimiser.zero_grad()
            loss_of(model(x), y).backward()
            optimiser.step()
            schedule.step()
    model.eval()
    return time.process_time() - start


def run(method: str, seed: int, epochs: int, quick: bool) -> Run:
    """Train and evaluate one method from one seed, on one thread: its CPU seconds are then the same beside another."""
    torch.set_num_threads(1)
    images, labels, test, unseen = data(quick)
    model = made(method, seed)
    seconds = train(model, images, labels, epochs, seed)
    figures = packify.evaluate(model, test, ood=unseen).row()
    params = sum(parameter.numel() for parameter in model.parameters())
    return Run(method, seed, epochs, len(images), figures, params, seconds)


def compare(seeds: int, epochs: int, quick: bool, jobs: int, kept: Path) -> dict[str, list[Run]]:
    """Every method from every seed; what the file `kept` has is not run again, what is run is added to it."""
    images = len(data(quick)[0])
    wanted = [(method, seed) for seed in range(seeds) for method in METHODS]
    known = [Run(**json.loads(line)) for line in kept.read_text().splitlines()] if kept.exists() else []
    found = {(run.method, run.seed): run for run in known if (run.epochs, run.images) == (epochs, images)}
    with kept.open("a") as file:
        for one in side_by_side([(*one, epochs, quick) for one in wanted if one not in found], jobs):
            found[one.method, one.seed] = one
            file.write(json.dumps(asdict(one)) + "\n")
            file.flush()
            print(f"seed {one.seed}, {one.method}: {one.training:.1f} CPU seconds, {100 * one.figures['accuracy']:.1f} %", flush=True)
    return {method: [found[method, seed] for seed in range(seeds)] for method in METHODS}


def side_by_side(wanted: list[tuple[str, int, int, bool]], jobs: int) -> Iterator[Run]:
    """The runs, each when it ends; one job is this process."""
    if jobs == 1:
        yield from (run(*one) for one in wanted)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        for done in as_completed([pool.submit(run, *one) for one in wanted]):
            yield done.result()


def speeds(rounds: int) -> dict[str, float]:
    """Images per CPU second of inference in batches of 64, on one thread: the best of some rounds, in which all methods take turns."""
    torch.set_num_threads(1)
    x = torch.rand(64, 1, 8, 8)
    models = {method: made(method, 0).eval() for method in METHODS}
    best = dict.fromkeys(METHODS, math.inf)
    with torch.inference_mode():
        for _ in range(rounds + 1):
            for method, model in models.items():
                start = time.process_time()
                model(x)
                best[method] = min(best[method], time.process_time() - start)
    return {method: len(x) / max(seconds, 1e-9) for method, seconds in best.items()}


def mult_adds() -> dict[str, int]:
    """Mult-Adds of one prediction of all members."""
    costs = packify.record(digits.network(), EXAMPLE).method_budgets(alpha=2, num_estimators=M).networks().values()
    return {method: cost.mult_adds for method, cost in zip(METHODS, costs, strict=True)}


COLUMNS: dict[str, tuple[str, Callable[[Run], float]]] = {
    "acc %": ("{:.1f}", lambda run: 100 * run.figures["accuracy"]),
    "NLL": ("{:.3f}", lambda run: run.figures["nll"]),
    "ECE %": ("{:.1f}", lambda run: 100 * run.figures["ece"]),
    "AUPR %": ("{:.1f}", lambda run: 100 * run.figures["ood_max_softmax_aupr"]),
    "AUC %": ("{:.1f}", lambda run: 100 * run.figures["ood_max_softmax_auroc"]),
    "FPR95 %": ("{:.1f}", lambda run: 100 * run.figures["ood_max_softmax_fpr95"]),
}
MORE_COLUMNS: dict[str, tuple[str, Callable[[Run], float]]] = {
    "disagreement %": ("{:.1f}", lambda run: 100 * run.figures["disagreement"]),
    "KL": ("{:.3f}", lambda run: run.figures["kl"]),
    "training CPU s": ("{:.1f}", lambda run: run.training),
}


def table(found: dict[str, list[Run]], costs: dict[str, int]) -> str:
    """The columns of Table 1: means over the seeds, with deviations; parameters and Mult-Adds of one prediction."""
    rows = []
    for name, runs in found.items():
        cells = [cell(form, [value(run) for run in runs]) for form, value in COLUMNS.values()]
        rows.append([name, *cells, f"{runs[0].params / 1e3:.0f}", f"{costs[name] / 1e6:.1f}"])
    return markdown(["", *COLUMNS, "params k", "Mult-Adds M"], rows)


def table_of_members(found: dict[str, list[Run]], fast: dict[str, float]) -> str:
    """How much members differ, and the time that they take."""
    rows = []
    for name, runs in found.items():
        cells = [cell(form, [value(run) for run in runs]) for form, value in MORE_COLUMNS.values()]
        rows.append([name, *cells, f"{fast[name]:.0f}"])
    return markdown(["", *MORE_COLUMNS, "images / CPU s"], rows)


def cell(form: str, values: list[float]) -> str:
    """Mean and standard deviation."""
    return form.format(statistics.mean(values)) + (f" ± {form.format(statistics.stdev(values))}" if len(values) > 1 else "")


def detection_table(found: dict[str, list[Run]]) -> str:
    """AUPR, AUC and FPR95 of unseen digits by the four criteria, means over the seeds, in percent."""
    rows = []
    for name, runs in found.items():
        cells = []
        for criterion in CRITERIA:
            keys = [f"ood_{criterion}_{what}" for what in ("aupr", "auroc", "fpr95")]
            cells.append(" / ".join(f"{100 * statistics.mean(run.figures[key] for run in runs):.1f}" for key in keys))
        rows.append([name, *cells])
    return markdown(["AUPR / AUC / FPR95 %", *CRITERIA], rows)


def markdown(heads: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown whose columns stand below each other in a terminal too."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]

    def lines() -> Iterator[list[str]]:
        yield heads
        yield ["-" * width for width in widths]
        yield from rows

    return "\n".join("| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in lines())


def draw(found: dict[str, list[Run]], fast: dict[str, float], path: Path) -> None:
    """Accuracy against images per second; the area of a disc is its method's number of parameters, bars are deviations over the seeds."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.subplots()
    single = found["Single"][0].params
    for number, (name, runs) in enumerate(found.items()):
        x, accuracies = fast[name], [100 * run.figures["accuracy"] for run in runs]
        y, spread = statistics.mean(accuracies), statistics.stdev(accuracies) if len(runs) > 1 else 0.0
        axes.scatter(x, y, s=400 * runs[0].params / single, color=f"C{number}", alpha=0.5, zorder=3)
        axes.errorbar(x, y, spread, fmt=".", color=f"C{number}", capsize=3, linewidth=1, zorder=4)
        axes.plot([], [], "o", color=f"C{number}", alpha=0.5, label=f"{name}, {runs[0].params / 1e3:,.0f} k")
    axes.set_xscale("log")
    axes.margins(0.15, 0.2)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("images per CPU second at inference")
    axes.set_ylabel("accuracy (%)")
    axes.grid(color="0.92", which="both")
    figure.legend(loc="outside lower center", ncols=3, title="areas: parameters")
    figure.savefig(path, dpi=150)


def main(arguments: list[str] | None = None) -> None:
    """Train, evaluate, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2, help="how many networks train side by side, on a core each")
    parser.add_argument("--quick", action="store_true", help="one seed, one epoch, little data")
    parser.add_argument("--out", type=Path, default=Path("methods"), help="runs are kept in OUT.jsonl, the picture is written to OUT.png")
    given = parser.parse_args(arguments)
    seeds, epochs = (1, 1) if given.quick else (given.seeds, given.epochs)
    found = compare(seeds, epochs, given.quick, given.jobs, given.out.with_suffix(".jsonl"))
    fast = speeds(2 if given.quick else 20)
    print("\n" + table(found, mult_adds()))
    print("\n" + table_of_members(found, fast))
    print("\n" + detection_table(found))
    draw(found, fast, given.out.with_suffix(".png"))
    print("\n" + given.out.with_suffix(".png").name)


if __name__ == "__main__":
    main()
