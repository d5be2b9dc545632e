"""Train a network as a Packed-Ensemble: a script to start from.

    python examples/train.py resnet18 --data CIFAR10 --download --input-size 3x32x32 --alpha 2 --M 4 --gamma 2 --out runs/r18
    python examples/train.py file.py:factory --data FOLDER --amp bf16 --ema 0.9998 --mixup 0.2 --out runs/mine
    torchrun --nproc-per-node 2 examples/train.py resnet50 --data FOLDER --out runs/r50
    torchrun --nproc-per-node 4 examples/train.py resnet50 --data FOLDER --mesh member=2,data=2 --out runs/r50

MODEL is a timm or torchvision name or `file.py:factory`. A killed run goes on where its last epoch ended with `--resume`, and ends with the
same numbers bit for bit. With `--mesh` every process holds its own members only. At the end come the metrics, and `OUT/artefact` is for
`packify evaluate` and `packify.load`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from train_data import open_data, start_epoch, train_loader
from train_process import Process

import packify
from packify import sources

_AMP = {"none": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_NUMBERS = {"alpha": 2.0, "M": 4, "gamma": 1, "epochs": 10, "batch-size": 128, "lr": 0.05, "weight-decay": 5e-4, "warmup": 0}
_OPTIONS = {"label-smoothing": 0.0, "mixup": 0.0, "ema": 0.0, "clip": 0.0, "seed": 0, "workers": 0}
# What may change when a run goes on: it decides no number.
_FREE = ("resume", "json", "root", "download", "out", "mesh")


class Training:
    """Everything that changes while a network is trained: what a checkpoint holds."""

    def __init__(self, network: nn.Module, given: argparse.Namespace, process: Process, steps: int) -> None:
        self.given, self.process, self.epoch = given, process, 0
        self.network = network
        self.packed = network.packed if process.mesh else getattr(network, "module", network)  # the members of this process
        decayed = {many: [each for each in self.packed.parameters() if (each.dim() > 1) == many] for many in (True, False)}
        groups = [{"params": each, "weight_decay": given.weight_decay * many} for many, each in decayed.items()]
        of_sgd = {"momentum": 0.9, "nesterov": True} if given.optimizer == "sgd" else {}
        self.optimiser = (torch.optim.SGD if of_sgd else torch.optim.AdamW)(groups, lr=given.lr, **of_sgd)
        warm, total = given.warmup * steps, given.epochs * steps
        shape = lambda step: (  # noqa: E731  one curve: a line up, half a cosine down
            (step + 1) / (warm + 1) if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, shape)
        self.scaler = torch.amp.GradScaler(process.device.type, enabled=given.amp == "fp16")
        self.parts: dict[str, Any] = {"network": self.packed, "optimiser": self.optimiser, "schedule": self.schedule}
        self.parts["scaler"] = self.scaler
        if given.ema:
            self.parts["average"] = AveragedModel(self.packed, multi_avg_fn=get_ema_multi_avg_fn(given.ema), use_buffers=True)

    @property
    def trained(self) -> nn.Module:
        """What is evaluated and saved: the average of the weights over time, if there is one."""
        if self.process.mesh:
            return self.network
        return self.parts["average"].module if "average" in self.parts else self.packed

    def step(self, criterion: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """One step of the optimiser; each member trains as it would alone. The sum of the members' losses."""
        dtype = _AMP[self.given.amp]
        with torch.autocast(self.process.device.type, dtype, enabled=dtype != torch.float32):
            outputs = self.network(images)
        loss: torch.Tensor = criterion(outputs.float() if dtype != torch.float32 else outputs, labels)
        self.optimiser.zero_grad()
        self.scaler.scale(loss).backward()
        if self.given.clip:
            self.scaler.unscale_(self.optimiser)
            packify.clip_grad_norm_(self.packed, self.given.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.schedule.step()
        if "average" in self.parts:
            self.parts["average"].update_parameters(self.packed)
        return loss.detach()

    def save(self, path: Path, source: Any) -> None:
        """A checkpoint, written at once: whoever is killed leaves the last whole one."""
        state = {name: part.state_dict() for name, part in self.parts.items()}
        if self.process.mesh:
            plain = {name: state[name] for name in ("schedule", "scaler")}
            extra = {"epoch": self.epoch, "settings": settings(self.given, self.process), **plain}
            packify.save_checkpoint(self.network.eval(), path, self.optimiser, extra, source=source)
            return
        fresh = path.with_suffix(".part")
        torch.save({"epoch": self.epoch, "settings": settings(self.given, self.process), **state}, fresh)
        fresh.replace(path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            DataError: it is of a run with other settings.
        """
        if self.process.mesh:
            state = packify.load_checkpoint(self.network, path, self.optimiser)
        else:
            state = torch.load(path, map_location=self.process.device, weights_only=True)
        before, now = state["settings"], settings(self.given, self.process)
        differing = [f"{name} was {before.get(name)!r} and is {value!r}" for name, value in now.items() if before.get(name) != value]
        if differing:
            raise packify.DataError(
                str(path),
                found="; ".join(differing),
                why="a run that goes on with other settings is another run",
                fix="pass the settings that it was started with, or another --out",
            )
        for name, part in self.parts.items():
            if name in state:
                part.load_state_dict(state[name])
        self.epoch = state["epoch"]


def settings(given: argparse.Namespace, process: Process) -> dict[str, Any]:
    """What decides the numbers of a run."""
    return {**{name: value for name, value in vars(given).items() if name not in _FREE}, "processes": process.copies}


def run(given: argparse.Namespace, process: Process) -> packify.Evaluation | None:
    """Train, and on the first process (all of a mesh) evaluate and save."""
    last, other = (given.out / name for name in (("last", "last.pt") if process.mesh else ("last.pt", "last")))
    begun = last.exists() or last.with_name(f".{last.name}.old").exists()  # killed while a checkpoint was replaced
    if (begun and not given.resume) or other.exists():
        raise packify.DataError(
            str(given.out), found="a run", why="it would be written over", fix="pass --resume to go on, or another --out"
        )
    if process.mesh and given.ema:
        raise packify.SpecError("--ema", found="--mesh", why="a checkpoint of a mesh holds one set of weights", fix="leave one of them out")
    size = sources.parse_input_size(given.input_size) if given.input_size else sources.resolve(given.model, device="meta").input_size
    data = open_data(given.data, size or (), given.root, given.download)
    reference = sources.resolve(
        given.model,
        num_classes=data.classes,
        input_size=size if given.input_size else None,
        args=dict(map(sources.parse_argument, given.arg)),
        pretrained=given.pretrained,
    )
    spec = {"alpha": given.alpha, "num_estimators": given.M, "gamma": given.gamma, "seed": given.seed, "weights": given.weights}
    network = process.build(packify.record(reference.model, reference.example()), {**spec, "average": "probs"})
    loader = train_loader(data.train, given.batch_size, given.workers, given.seed, process.copy, process.copies)
    training = Training(network, given, process, len(loader))
    members = training.packed.num_estimators
    if begun:
        training.load(last)
    given.out.mkdir(parents=True, exist_ok=True)
    test = DataLoader(data.test, given.batch_size, num_workers=given.workers)
    criterion = packify.EnsembleLoss(nn.CrossEntropyLoss(label_smoothing=given.label_smoothing), num_estimators=members)
    for epoch in range(training.epoch, given.epochs):
        loss = train_epoch(training, loader, criterion, data.classes)
        training.epoch = epoch + 1
        if process.rank == 0 or process.mesh:
            held_out = packify.evaluate(training.trained, test)
            training.save(last, reference.source)
            lr = training.schedule.get_last_lr()[0]
        if process.rank == 0:
            say(given, event="epoch", epoch=epoch + 1, loss=loss, lr=lr, accuracy=held_out.accuracy, nll=held_out.nll)
    found = packify.evaluate(training.trained, test) if process.rank == 0 or process.mesh else None
    if found is None or process.rank != 0:
        return None
    if process.mesh:
        packify.consolidate(last, given.out / "artefact", model=reference.model, force=True)
    else:
        packify.save(training.trained.eval(), given.out / "artefact", source=reference.source, force=True)
    single = {name: value for name, value in found.to_dict().items() if isinstance(value, (int, float)) and not isinstance(value, bool)}
    say(given, event="end", artefact=str(given.out / "artefact"), **single)
    return found


def train_epoch(training: Training, loader: DataLoader[Any], criterion: nn.Module, classes: int) -> float:
    """One pass over the data; the mean loss of a member on this process.

    Raises:
        DataError: the loss is not finite.
    """
    given, process = training.given, training.process
    start_epoch(loader, given.seed, training.epoch, process.copy)
    mixup = v2.MixUp(alpha=given.mixup, num_classes=classes) if given.mixup else None
    total, steps = torch.zeros((), device=process.device), 0
    training.network.train()
    console = Console(stderr=True)
    quiet = given.json or process.rank > 0 or not console.is_terminal
    for images, labels in track(loader, f"epoch {training.epoch + 1} of {given.epochs}", console=console, transient=True, disable=quiet):
        images, labels = images.to(process.device, non_blocking=True), labels.to(process.device, non_blocking=True)
        if mixup is not None:
            images, labels = mixup(images, labels)
        total, steps = total + training.step(criterion, images, labels), steps + 1
    mean = total.item() / steps / training.packed.num_estimators
    if not math.isfinite(mean):
        raise packify.DataError(
            f"epoch {training.epoch + 1}", found=f"a loss of {mean}", why="the training diverged", fix="lower --lr, or pass --clip 1"
        )
    return mean


def say(given: argparse.Namespace, **values: Any) -> None:
    """One line: a JSON object with --json, else for people."""
    words = (f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items())
    print(json.dumps(values) if given.json else "  ".join(words), flush=True)


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--data", required=True, help="a folder, digits, generated, or a data set of torchvision's")
    parser.add_argument("--root", type=Path, default=Path("data"), help="of torchvision's data sets")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint and artefact")
    parser.add_argument("--input-size", help="3x32x32; by default the model's own")
    parser.add_argument("--mesh", default="", help="member=2,data=2: processes along members and along data; without it all along data")
    parser.add_argument("--arg", action="append", default=[], metavar="NAME=VALUE", help="for the model's builder")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for name, default in (_NUMBERS | _OPTIONS).items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    for name, choices in (("optimizer", ("sgd", "adamw")), ("amp", tuple(_AMP)), ("weights", ("fresh", "inherit"))):
        parser.add_argument(f"--{name}", choices=choices, default=choices[0])
    for name in ("pretrained", "download", "resume", "json"):
        parser.add_argument(f"--{name}", action="store_true")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> packify.Evaluation | None:
    """Train with the settings of the command line."""
    given = arguments(argv)
    try:
        with Process.join(given.device, given.mesh, given.M) as process:
            return run(given, process)
    except packify.PackifyError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
