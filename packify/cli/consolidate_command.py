"""`packify consolidate`: a checkpoint of many processes as an ordinary artefact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from packify.cli.console import out as stdout
from packify.cli.console import print_json, steps
from packify.cli.loading import reference_for
from packify.cli.options import FactoryArgs, Force, Json, Out, Quiet, ReferenceOption

CheckpointArgument = Annotated[
    Path, typer.Argument(metavar="CHECKPOINT", help="A folder that packify.save_checkpoint wrote.", show_default=False)
]


def consolidate(
    checkpoint: CheckpointArgument,
    out: Out = None,
    model: ReferenceOption = None,
    arg: FactoryArgs = None,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a checkpoint that any number of processes saved as an ordinary artefact, bit for bit."""
    with steps(2, quiet or json) as step:
        with step("import", "importing torch"):
            from packify.distributed.checkpoints import checked
            from packify.distributed.consolidation import consolidate as write
        target = out or checkpoint.resolve().with_name(f"{checkpoint.resolve().name}-whole")
        with step("write", f"writing {target}"):
            reference = reference_for(checked(checkpoint), model, arg)
            written = write(checkpoint, target, model=reference, force=force)
    if json:
        print_json({"checkpoint": str(checkpoint), "written": str(written), "seconds": step.seconds})
    elif quiet:
        stdout().print(str(written), soft_wrap=True)
    else:
        stdout().print(f"[green]✓[/green] {checkpoint} written to [bold]{written}/[/bold]", soft_wrap=True)
