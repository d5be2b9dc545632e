"""`packify export`: an artefact as one file that runs without packify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from packify.cli.console import out as stdout
from packify.cli.console import print_json, steps
from packify.cli.loading import load_network
from packify.cli.options import ArtefactArgument, FactoryArgs, Json, Quiet, ReferenceOption
from packify.core.errors import SpecError

if TYPE_CHECKING:
    from packify.exporting.exporter import Export

_FILE = "The file"

To = Annotated[
    Literal["onnx", "pt2", "aoti"],
    typer.Option("--to", help="ONNX, torch.export's pt2, or a package of AOTInductor for this kind of machine.", rich_help_panel=_FILE),
]
OutFile = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Where to write.", show_default="DIR.onnx or DIR.pt2", rich_help_panel=_FILE)
]
Batch = Annotated[str, typer.Option("--batch", metavar="dynamic|N", help="Any batch size, or one.", rich_help_panel=_FILE)]
Outputs = Annotated[str, typer.Option("--outputs", help="Some of mean,members,uncertainty.", rich_help_panel=_FILE)]
Dtype = Annotated[
    Literal["fp32", "fp16", "bf16"] | None,
    typer.Option("--dtype", help="The network's own; inputs and outputs stay float32.", show_default=False, rich_help_panel=_FILE),
]
Resolution = Annotated[
    Literal["fixed", "dynamic"],
    typer.Option("--resolution", help="Any height and width, where the network allows it.", rich_help_panel=_FILE),
]
Fuse = Annotated[bool, typer.Option("--fuse", help="Fold batch norms into the layers before them.", rich_help_panel=_FILE)]
HowRun = Annotated[
    str | None,
    typer.Option(
        "--strategy",
        help="How members are run in the file: grouped, 'in turn', batched, 'per layer'.",
        show_default="the network's own, or grouped",
        rich_help_panel=_FILE,
    ),
]
Int8 = Annotated[bool, typer.Option("--int8", help="Weights of matrix products as int8 (onnx).", rich_help_panel=_FILE)]
Opset = Annotated[int | None, typer.Option("--opset", help="Of ONNX.", show_default=False, rich_help_panel=_FILE)]
NoCheck = Annotated[bool, typer.Option("--no-check", help="Do not run the file and compare it with torch.", rich_help_panel=_FILE)]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that is there.", rich_help_panel=_FILE)]


def export(
    directory: ArtefactArgument,
    to: To,
    out: OutFile = None,
    batch: Batch = "dynamic",
    outputs: Outputs = "mean,uncertainty",
    resolution: Resolution = "fixed",
    dtype: Dtype = None,
    fuse: Fuse = False,
    strategy: HowRun = None,
    int8: Int8 = False,
    opset: Opset = None,
    model: ReferenceOption = None,
    arg: FactoryArgs = None,
    no_check: NoCheck = False,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write an artefact as one file that runs without packify, compared with torch before it gets its name."""
    if batch != "dynamic" and not batch.isdecimal():
        raise SpecError("--batch", found=batch, why="it is dynamic, or a number of samples", fix="pass --batch dynamic or --batch 1")
    with steps(3, quiet or json) as step:
        with step("import", "importing torch"):
            from packify import artefact
            from packify.artefact.example import decode
            from packify.exporting.exporter import export as write
        with step("load", f"loading {directory}"):
            folder = artefact.located(directory)
            network = load_network(folder, model, arg)
            config = artefact.read_config(folder)
        name = Path(directory.name.partition("@")[0]) if str(directory).startswith("hf-hub:") else directory.resolve()
        target = out or name.with_name(name.name + (".onnx" if to == "onnx" else ".pt2"))
        options: dict[str, Any] = {"to": to, "dtype": dtype, "fuse": fuse, "strategy": strategy, "opset": opset, "resolution": resolution}
        with step("export", f"writing {target}"):
            found = write(
                network,
                target,
                example_inputs=decode(config.example),
                average=config.average,
                batch="dynamic" if batch == "dynamic" else int(batch),
                outputs=[part.strip() for part in outputs.split(",")],
                quantise="int8" if int8 else None,
                check=not no_check,
                force=force,
                **options,
            )
    if json:
        print_json({"artefact": str(directory), **found.to_dict()})
    elif quiet:
        stdout().print(str(found.path), soft_wrap=True)
    else:
        show(found)


def show(found: Export) -> None:
    """What was written, what it takes and gives, and how far it is from torch."""
    from rich import box
    from rich.table import Table

    console = stdout()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    table.add_column("dtype and shape")
    for one in found.comparisons:
        table.add_column(f"batch {one.batch}: largest error (relative)", justify="right")
    for name, shape in (*found.inputs.items(), *found.outputs.items()):
        errors = [
            next((f"{each.max_error:.1e} ({each.relative_error:.1e})" for each in one.differences if each.output == name), "")
            for one in found.comparisons
        ]
        table.add_row(name, shape, *errors)
    console.print(table)
    for note in found.notes:
        console.print(note, style="yellow", soft_wrap=True)
    if not found.comparisons:
        console.print("The file was not compared with torch (--no-check).", style="yellow")
    total = sum(found.seconds.values())
    how = f", members {found.strategy}" if found.strategy else ""
    size = f"{found.file_bytes / 1e6:,.1f} MB, {found.nodes} nodes{how}, {total:.1f} s"
    console.print(f"[green]✓[/green] written to [bold]{found.path}[/bold] ({size})", soft_wrap=True)
