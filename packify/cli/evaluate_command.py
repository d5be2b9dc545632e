"""`packify evaluate`: an artefact on folders of images: accuracy, calibration, shift and out-of-distribution detection."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from packify.cli.calibration import check_calibration, fit_temperature, saved_temperature
from packify.cli.console import err, print_json
from packify.cli.console import out as stdout
from packify.cli.loading import load_network
from packify.cli.options import ArtefactArgument, FactoryArgs, InputSize, Json, Quiet, ReferenceOption
from packify.cli.sweep_command import listed, progress

if TYPE_CHECKING:
    import torch
    from rich.table import Table
    from torch import nn

    from packify.evaluation import Evaluation
    from packify.sources.images import ImageFiles

_DATA, _FILES = "The data", "Output"

Data = Annotated[
    Path,
    typer.Option(
        "--data", metavar="FOLDER", help="Labelled test images, FOLDER/CLASS/image.png.", show_default=False, rich_help_panel=_DATA
    ),
]
Ood = Annotated[
    Path | None,
    typer.Option("--ood", metavar="FOLDER", help="Images of none of the classes.", show_default=False, rich_help_panel=_DATA),
]
Shift = Annotated[
    Path | None,
    typer.Option("--shift", metavar="FOLDER", help="Shifted images of the same classes.", show_default=False, rich_help_panel=_DATA),
]
Mean = Annotated[
    str | None,
    typer.Option(
        "--mean",
        metavar="A,B,C",
        help="Subtracted from values from 0 to 1.",
        show_default="the weights' or ImageNet's",
        rich_help_panel=_DATA,
    ),
]
Std = Annotated[
    str | None,
    typer.Option("--std", metavar="A,B,C", help="Then divided by.", show_default="the weights' or ImageNet's", rich_help_panel=_DATA),
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Images at once.", rich_help_panel=_DATA)]
Workers = Annotated[int, typer.Option("--workers", min=0, help="Processes that read images.", rich_help_panel=_DATA)]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps ...")]
Given = Annotated[
    Literal["logits", "probabilities"],
    typer.Option("--outputs", help="What the network gives: probabilities where it ends in a softmax."),
]
Temperature = Annotated[
    float | None, typer.Option("--temperature", help="Divides the ensemble's logits.", show_default="the artefact's own, or 1")
]
Calibrate = Annotated[
    Path | None,
    typer.Option(
        "--calibrate",
        metavar="FOLDER",
        help="Held-out labelled images: the temperature is fitted on them and saved with the artefact.",
        show_default=False,
        rich_help_panel=_DATA,
    ),
]
Plot = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", help="Draw the evaluation (png, pdf, svg).", show_default=False, rich_help_panel=_FILES),
]


def evaluate(
    directory: ArtefactArgument,
    data: Data,
    ood: Ood = None,
    shift: Shift = None,
    input_size: InputSize = None,
    mean: Mean = None,
    std: Std = None,
    batch_size: BatchSize = 64,
    workers: Workers = 0,
    device: Device = "cpu",
    outputs: Given = "logits",
    temperature: Temperature = None,
    calibrate: Calibrate = None,
    model: ReferenceOption = None,
    arg: FactoryArgs = None,
    plot: Plot = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Evaluate an artefact on folders of images: accuracy, calibration, out-of-distribution detection, each member's and the ensemble's."""
    numbers: dict[str, Any] = {
        name: None if text is None else listed(f"--{name}", text, float) for name, text in (("mean", mean), ("std", std))
    }
    with progress("importing torch", quiet=quiet or json) as report:
        from packify import artefact, sources
        from packify.evaluation import check_picture, plot_evaluation
        from packify.evaluation import evaluate as measure
        from packify.sources.images import labelled_images, unlabelled_images

        if plot is not None:
            check_picture(plot)
        if calibrate is not None:
            check_calibration(directory, temperature)
        size = None if input_size is None else sources.parse_input_size(input_size)
        report(f"loading {directory}", 0, 1)
        folder = artefact.located(directory)
        network, example_size, dtype = _network(folder, model, arg, device)
        size = _image_size(size, example_size)
        numbers = _normalisation(folder, size[0]) | {key: value for key, value in numbers.items() if value is not None}
        images = labelled_images(data, size, **numbers)
        shifted = None if shift is None else labelled_images(shift, size, classes=images.classes, **numbers)
        others = None if ood is None else unlabelled_images(ood, size, **numbers)
        _check_classes(network, images, data, dtype)
        held_out = None if calibrate is None else labelled_images(calibrate, size, classes=images.classes, **numbers)
        if held_out is not None:
            report(f"calibrating {directory}", 0, 1)
            temperature = fit_temperature(directory, network, _loader(held_out, batch_size, workers), dtype, outputs)
        temperature = saved_temperature(directory) if temperature is None else temperature
        loaders = [_loader(one, batch_size, workers) for one in (images, others, shifted)]
        found = measure(
            network,
            loaders[0],
            kind="classification",
            ood=loaders[1],
            shift=loaders[2],
            outputs=outputs,
            temperature=temperature,
            split=lambda batch: (batch[0].to(dtype), batch[1]),
            progress=lambda done, total: report(f"evaluating {directory}", done, total),
        )
        if plot is not None:
            report(f"drawing {plot}", 0, 1)
            plot_evaluation(found, plot, title=str(directory))
    if json:
        print_json({"artefact": str(directory), "data": _described(images), "temperature": temperature, "evaluation": found.to_dict()})
    elif not quiet:
        show(Evaluated(directory, images, found, temperature))
    if plot is not None:
        err().print(f"written: {plot}", soft_wrap=True)


@dataclass(frozen=True)
class Evaluated:
    """What `packify evaluate` found out."""

    directory: Path
    images: ImageFiles
    found: Evaluation
    temperature: float


def show(evaluated: Evaluated) -> None:
    """The tables and how their figures are defined."""
    from rich.text import Text

    console, found = stdout(), evaluated.found
    described = _described(evaluated.images)
    console.print(
        Text("\n")
        .append(str(evaluated.directory), style="bold")
        .append(f" on {described['images']} images of {described['classes']} classes")
    )
    size = "x".join(map(str, described["size"]))
    console.print(
        Text(f"input {size}, scaled to cover and cut to the middle, mean {described['mean']}, std {described['std']}", style="dim")
    )
    if evaluated.temperature != 1:
        console.print(Text(f"the ensemble's logits divided by the temperature {evaluated.temperature:.4g}", style="dim"))
    console.print(_metrics_table(found))
    if found.ood is not None:
        console.print(_ood_table(found))
    if found.num_estimators > 1:
        console.print(f"disagreement {found.disagreement:.4f}, KL between members {found.kl:.4f}\n")
    for line in found.conventions.splitlines():
        console.print(Text(line, style="dim"))


def _metrics_table(found: Evaluation) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for label in ("accuracy", "NLL", "ECE", "adaptive ECE", "Brier", "AURC"):
        table.add_column(label, justify="right")
    for name, one in (("test", found), ("shift", found.shift)):
        if one is None:
            continue
        whole = f"{name}: ensemble" if one.num_estimators > 1 else name
        table.add_row(whole, *_cells(one), style="bold")
        for number, member in enumerate(one.members):
            table.add_row(f"{name}: member {number}", *_cells(member))
    return table


def _ood_table(found: Evaluation) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("out-of-distribution by")
    for label in ("AUROC", "AUPR", "FPR95"):
        table.add_column(label, justify="right")
    for name, one in vars(found.ood).items():
        table.add_row(name.replace("_", " "), *(f"{value:.4f}" for value in (one.auroc, one.aupr, one.fpr95)))
    return table


def _cells(found: Evaluation) -> list[str]:
    return [f"{value:.4f}" for value in (found.accuracy, found.nll, found.ece, found.adaptive_ece, found.brier, found.aurc)]


def _described(images: ImageFiles) -> dict[str, Any]:
    return {
        "images": len(images),
        "classes": len(images.classes),
        "size": list(images.size),
        "mean": [round(value, 4) for value in images.mean],
        "std": [round(value, 4) for value in images.std],
    }


def _network(directory: Path, model: str | None, arg: list[str] | None, device: str) -> tuple[nn.Module, tuple[int, ...], torch.dtype]:
    """The network on its device, the size of one of its inputs, and their dtype.

    Raises:
        SpecError: there is no such device.
        ArtefactError: the artefact cannot be loaded.
    """
    import torch
    from torch.utils import _pytree

    from packify import artefact
    from packify.artefact.example import decode
    from packify.core.errors import SpecError

    try:
        place = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise SpecError(
            f"--device {device}", found=str(error).splitlines()[0], why="there is no such device here", fix="pass --device cpu"
        ) from error
    network = load_network(directory, model, arg)
    tensors = [leaf for leaf in _pytree.tree_leaves(decode(artefact.read_config(directory).example)) if isinstance(leaf, torch.Tensor)]
    first = next((tensor for tensor in tensors if tensor.is_floating_point()), torch.empty(1))
    return network.to(place), tuple(first.shape[1:]), first.dtype


def _image_size(asked: tuple[int, ...] | None, recorded: tuple[int, ...]) -> tuple[int, ...]:
    """Channels, height and width of the images that the network takes.

    Raises:
        SpecError: it takes other inputs.
    """
    from packify.core.errors import SpecError

    if len(recorded) != 3:
        raise SpecError(
            "packify evaluate",
            found=f"a network of inputs of shape {recorded}" if recorded else "a network of inputs that are no floating-point numbers",
            why="it is measured on folders of images, c x h x w",
            fix="use Python: packify.evaluate(packify.load(DIR), loader)",
        )
    return asked or recorded


def _normalisation(directory: Path, channels: int) -> dict[str, Any]:
    """The mean and std of the published weights that the members come from, if they do."""
    from packify import artefact

    source = artefact.read_config(directory).source
    known = {} if source is None else {"mean": source.mean, "std": source.std}
    return {key: value for key, value in known.items() if value is not None and len(value) == channels}


def _check_classes(network: nn.Module, images: ImageFiles, folder: Path, dtype: torch.dtype) -> None:
    """Raise SourceError unless there are as many class folders as the network has classes: otherwise labels would be counted wrongly."""
    import torch

    from packify.core.errors import PackifyError, SourceError, SpecError
    from packify.evaluation.prediction import in_eval_mode, member_outputs

    try:
        with torch.no_grad(), in_eval_mode([network]):
            classes = member_outputs([network], images[0][0][None].to(dtype)).shape[-1]
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        if isinstance(error, PackifyError):
            raise
        size = "x".join(map(str, images.size))
        raise SpecError(
            f"input size {size}",
            found=f"{type(error).__name__}: {error}"[:300],
            why="the network does not run on images of that size",
            fix="leave --input-size out: the network was recorded with a size that it takes",
        ) from error
    if classes != len(images.classes):
        raise SourceError(
            str(folder),
            found="one class folder" if len(images.classes) == 1 else f"{len(images.classes)} class folders",
            why=f"the network has {classes} classes, and folders are numbered in the order of their names",
            fix="make one folder for each class the network was trained on, empty where there is no image",
        )


def _loader(images: ImageFiles | None, batch_size: int, workers: int) -> Any:
    from torch.utils.data import DataLoader

    return None if images is None else DataLoader(images, batch_size=batch_size, num_workers=workers)
