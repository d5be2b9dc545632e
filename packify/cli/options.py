"""The options that several commands share, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

_MEMBERS, _INPUT, _OUTPUT = "The ensemble", "The reference", "Output"

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A timm name (resnet50, timm:resnet50), torchvision:resnet50, path/to/file.py:factory or package.module:factory.",
        show_default=False,
    ),
]
ArtefactArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="What `packify convert` wrote, or hf-hub:user/name.", show_default=False)
]

Alpha = Annotated[
    float, typer.Option("--alpha", help="Expansion factor: a member is alpha / M as wide as the reference.", rich_help_panel=_MEMBERS)
]
NumEstimators = Annotated[int, typer.Option("--M", "--num-estimators", help="Number of members.", rich_help_panel=_MEMBERS)]
Gamma = Annotated[int, typer.Option("--gamma", help="Subgroups inside each member.", rich_help_panel=_MEMBERS)]
GammaPolicyOption = Annotated[
    Literal["paper", "uniform"],
    typer.Option(
        "--gamma-policy",
        help="Which layers get gamma: as in the paper's published models, or all but the first and last.",
        rich_help_panel=_MEMBERS,
    ),
]
MinChannels = Annotated[
    int,
    typer.Option(
        "--min-channels-per-group", help="The paper policy lowers gamma until a group has this many channels.", rich_help_panel=_MEMBERS
    ),
]
RoundTo = Annotated[int, typer.Option("--round-to", help="Hidden widths of a member are multiples of this.", rich_help_panel=_MEMBERS)]
UnusedOption = Annotated[
    Literal["drop", "keep"],
    typer.Option("--unused", help="Parameters that forward never reads: left out, or kept in every member.", rich_help_panel=_MEMBERS),
]
HeadsOption = Annotated[
    Literal["scale", "keep"],
    typer.Option(
        "--heads",
        help="Attention: fewer heads of the same size where alpha / M times their number is whole, or as many smaller ones.",
        rich_help_panel=_MEMBERS,
    ),
]
GroupsOption = Annotated[
    Literal["scale", "keep"],
    typer.Option(
        "--groups",
        help="Grouped convs: fewer groups of the same size where alpha / M times their number is whole, or as many smaller ones.",
        rich_help_panel=_MEMBERS,
    ),
]

NumClasses = Annotated[int | None, typer.Option("--num-classes", help="Size of the output.", show_default=False, rich_help_panel=_INPUT)]
InChans = Annotated[int | None, typer.Option("--in-chans", help="Channels of the input.", show_default=False, rich_help_panel=_INPUT)]
InputSize = Annotated[
    str | None,
    typer.Option(
        "--input-size",
        metavar="CxHxW",
        help="Shape of one input, without the batch: 3x224x224.",
        show_default=False,
        rich_help_panel=_INPUT,
    ),
]
FactoryArgs = Annotated[
    list[str] | None,
    typer.Option(
        "--arg", metavar="KEY=VALUE", help="An argument for the factory; may be given again.", show_default=False, rich_help_panel=_INPUT
    ),
]
FreeOutput = Annotated[
    list[str] | None,
    typer.Option(
        "--free-output",
        metavar="PATH",
        help="An output whose width follows the members'; may be given again.",
        show_default=False,
        rich_help_panel=_MEMBERS,
    ),
]
DropOutput = Annotated[
    list[str] | None,
    typer.Option(
        "--drop-output",
        metavar="PATH",
        help="An output that is not computed; may be given again.",
        show_default=False,
        rich_help_panel=_MEMBERS,
    ),
]
ReferenceOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="The reference, when DIR was made from a factory of your own.",
        show_default=False,
        rich_help_panel=_INPUT,
    ),
]

Seed = Annotated[int, typer.Option("--seed", help="Seed of the members' initial weights.", min=0, max=2**32 - 1)]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Where to write.", show_default=False, rich_help_panel=_OUTPUT)]
Force = Annotated[bool, typer.Option("--force", help="Replace an artefact that is there.", rich_help_panel=_OUTPUT)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a report.", rich_help_panel=_OUTPUT)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no report.", rich_help_panel=_OUTPUT)]


def output_choices(free: list[str] | None, drop: list[str] | None) -> dict[str, str]:
    """The `outputs` argument of `packify.record` from the two options.

    Raises:
        SpecError: a path is in both.
    """
    from packify.core.errors import SpecError

    both = sorted({*(free or ())} & {*(drop or ())})
    if both:
        raise SpecError(
            "--free-output and --drop-output",
            found=f"{both[0]!r} in both",
            why="an output that is not computed has no width",
            fix="pass it to one of the two",
        )
    return dict.fromkeys(free or (), "free") | dict.fromkeys(drop or (), "drop")
