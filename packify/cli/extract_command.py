"""`packify extract`: one member of an artefact, as an artefact of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from packify.cli.console import out as stdout
from packify.cli.console import print_json, steps
from packify.cli.loading import load_packed
from packify.cli.options import ArtefactArgument, FactoryArgs, Force, Json, Out, Quiet, ReferenceOption
from packify.core.errors import SpecError

Member = Annotated[int, typer.Option("--member", "-m", help="Which member, counted from 0.", show_default=False)]


def extract(
    directory: ArtefactArgument,
    member: Member,
    out: Out = None,
    model: ReferenceOption = None,
    arg: FactoryArgs = None,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write one member as an artefact of its own; its model.safetensors is a plain state dict with the reference's names."""
    with steps(3, quiet or json) as step:
        with step("import", "importing torch"):
            from packify import artefact
        folder = artefact.located(directory)
        config = artefact.read_config(folder)
        count = config.spec.num_estimators
        if not 0 <= member < count:
            raise SpecError(
                "--member", found=str(member), why=f"{directory} has members 0 to {count - 1}", fix="pass for example --member 0"
            )
        target = artefact.check_target(out or _beside(directory, member), force)
        with step("load", f"loading {directory}"):
            packed = load_packed(folder, model, arg)
        with step("write", f"writing {target}"):
            written: Path = artefact.save_member(packed, member, target, source=config.source, force=force)
    if json:
        print_json({"artefact": str(directory), "member": member, "written": str(written), "seconds": step.seconds})
    elif quiet:
        stdout().print(str(written), soft_wrap=True)
    else:
        stdout().print(f"[green]✓[/green] member {member} of {directory} written to [bold]{written}/[/bold]", soft_wrap=True)


def _beside(directory: Path, member: int) -> Path:
    """``nets/resnet50-member2`` for ``nets/resnet50``; ``name-member2`` here for an artefact of a hub."""
    own = Path(directory.name.partition("@")[0]) if str(directory).startswith("hf-hub:") else directory.resolve()
    return own.with_name(f"{own.name}-member{member}")
