"""`packify card`: the model card of an artefact, and the artefact on a hub."""

from __future__ import annotations

import json as jsons
from pathlib import Path
from typing import Annotated, Any

import typer

from packify.cli.console import out as stdout
from packify.cli.console import print_json, steps
from packify.cli.loading import reference_for
from packify.cli.options import ArtefactArgument, FactoryArgs, Json, Quiet, ReferenceOption
from packify.core.errors import SpecError

_CARD, _HUB = "The card", "The hub"

EvaluationFile = Annotated[
    Path | None,
    typer.Option(
        "--evaluation",
        metavar="FILE",
        help="What `packify evaluate DIR --json` printed.",
        show_default=False,
        rich_help_panel=_CARD,
    ),
]
Dataset = Annotated[str, typer.Option("--dataset", help="The name of the evaluation's data.", show_default=False, rich_help_panel=_CARD)]
License = Annotated[
    str,
    typer.Option(
        "--license",
        metavar="NAME",
        help="Of the artefact, by the hub's names: apache-2.0, mit ...",
        show_default="the published weights'",
        rich_help_panel=_CARD,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace a card that is there.", rich_help_panel=_CARD)]
Push = Annotated[
    str | None,
    typer.Option("--push", metavar="USER/NAME", help="Publish the artefact and its card.", show_default=False, rich_help_panel=_HUB),
]
Private = Annotated[bool, typer.Option("--private", help="Make a new repository a private one.", rich_help_panel=_HUB)]
Revision = Annotated[str | None, typer.Option("--revision", help="The branch to publish to.", show_default="main", rich_help_panel=_HUB)]


def card(
    directory: ArtefactArgument,
    evaluation: EvaluationFile = None,
    dataset: Dataset = "",
    license: License = "",  # noqa: A002 - the option's name
    model: ReferenceOption = None,
    arg: FactoryArgs = None,
    force: Force = False,
    push: Push = None,
    private: Private = False,
    revision: Revision = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the model card of an artefact as its README.md; with --push, publish both on the hub."""
    with steps(3, quiet or json) as step:
        with step("import", "importing torch"):
            from packify import artefact, push_to_hub, write_card
        facts: dict[str, Any] = {"evaluation": _evaluation(evaluation), "dataset": dataset, "license": license}
        with step("card", f"describing {directory}"):
            facts["model"] = reference_for(directory, model, arg)
            there = (directory / artefact.CARD_FILE).is_file()
            edited = push is not None and there and not force  # a card that was written before, and perhaps edited, is published as it is
            written = directory / artefact.CARD_FILE if edited else write_card(directory, force=force, repo_id=push or "", **facts)
        with step("push", f"publishing {directory}"):
            name = None if push is None else push_to_hub(directory, push, private=private or None, revision=revision)
    if json:
        print_json({"artefact": str(directory), "card": str(written), "pushed": name, "seconds": step.seconds})
    elif quiet:
        stdout().print(name or str(written), soft_wrap=True)
    else:
        stdout().print(f"[green]✓[/green] the card of {directory} is [bold]{written}[/bold]", soft_wrap=True)
        if name:
            stdout().print(f"[green]✓[/green] published: packify.load({name!r})", soft_wrap=True)


def _evaluation(file: Path | None) -> Any:
    if file is None:
        return None
    try:
        found = jsons.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SpecError(
            f"--evaluation {file}",
            found=str(error)[:200],
            why="it is a file that `packify evaluate DIR --data FOLDER --json` printed",
            fix="packify evaluate DIR --data FOLDER --json > found.json",
        ) from error
    return found.get("evaluation", found) if isinstance(found, dict) else found
