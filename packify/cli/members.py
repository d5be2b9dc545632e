"""What the members of a conversion come from: fresh draws, a trained reference, or a checkpoint each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packify.core.spec import Spec
    from packify.ensembles.recording import Recording
    from packify.nn.packed_network import PackedNetwork

_MEMBERS, _START = "The ensemble", "What members start from"

AlphaOrFiles = Annotated[
    float | None,
    typer.Option(
        "--alpha",
        help="Expansion factor: a member is alpha / M as wide as the reference.",
        show_default="M with --members",
        rich_help_panel=_MEMBERS,
    ),
]
CountOrFiles = Annotated[
    int | None,
    typer.Option("--M", "--num-estimators", help="Number of members.", show_default="as many as --members names", rich_help_panel=_MEMBERS),
]
Members = Annotated[
    str | None,
    typer.Option(
        "--members",
        metavar="FILE,FILE,...",
        help="A checkpoint for each member (.safetensors, .pth, .pt, .bin): trained networks as one, a Deep Ensemble.",
        show_default=False,
        rich_help_panel=_START,
    ),
]
WeightsOption = Annotated[
    Literal["fresh", "inherit"] | None,
    typer.Option(
        "--weights",
        help="Draw members afresh, or start each from its own channels of the trained reference.",
        show_default="fresh; inherit with --pretrained",
        rich_help_panel=_START,
    ),
]
Pretrained = Annotated[
    bool, typer.Option("--pretrained", help="Members inherit timm's published weights, fetched if need be.", rich_help_panel=_START)
]
MemberSeedsOption = Annotated[
    Literal["own", "same"],
    typer.Option("--member-seeds", help="Members start different, or all as member 0 does.", rich_help_panel=_START),
]


def spec_of(alpha: float | None, num_estimators: int | None, gamma: int, files: str | None, **others: Any) -> Spec:
    """The spec that is asked for; with checkpoints alpha and M are their number.

    Raises:
        SpecError: a number is missing, out of range, or disagrees with the number of checkpoints.
    """
    from packify.core.errors import SpecError
    from packify.core.spec import Spec

    if files is None:
        missing = [name for name, value in (("--alpha", alpha), ("--M", num_estimators)) if value is None]
        if alpha is None or num_estimators is None:
            raise SpecError(
                " and ".join(missing), found="nothing", why="they say how wide and how many members are", fix="pass --alpha 2 --M 4"
            )
        return Spec(alpha, num_estimators, gamma, **others)
    count = len(paths(files))
    require_whole(count, f"{count} checkpoints", alpha, num_estimators, gamma)
    return Spec(count, count)


def require_whole(members: int, found: str, alpha: float | None, num_estimators: int | None, gamma: int) -> None:
    """Check that alpha, M and gamma, where they are given, are those of whole networks side by side.

    Raises:
        SpecError: one of them is another.
    """
    from packify.core.errors import SpecError

    for name, value, wanted in (("--alpha", alpha, members), ("--M", num_estimators, members), ("--gamma", gamma, 1)):
        if value is not None and value != wanted:
            raise SpecError(
                f"{name} {value:g}",
                found=found,
                why=f"members that are whole networks, side by side, have alpha = M = {members} and gamma = 1",
                fix=f"leave {name} out",
            )


def paths(files: str) -> list[Path]:
    """The checkpoints that `--members` names.

    Raises:
        SpecError: it names none.
    """
    from packify.core.errors import SpecError

    found = [Path(part.strip()).expanduser() for part in files.split(",") if part.strip()]
    if not found:
        raise SpecError("--members", found=repr(files), why="an ensemble has at least one member", fix="pass --members a.safetensors,b.pth")
    return found


def start_of(weights: Literal["fresh", "inherit"] | None, files: str | None, pretrained: bool) -> Literal["fresh", "inherit"]:
    """What members start from.

    Raises:
        SpecError: two options contradict each other.
    """
    from packify.core.errors import SpecError

    given = f"--weights {weights}" if weights is not None else "--pretrained"
    if files is not None and (weights is not None or pretrained):
        raise SpecError(
            "--members", found=given, why="members that come from checkpoints start from nothing else", fix=f"leave {given} out"
        )
    if pretrained and weights == "fresh":
        raise SpecError("--pretrained", found=given, why="members that are drawn afresh have nothing of it", fix="leave one of them out")
    return weights or ("inherit" if pretrained else "fresh")


def packed_members(recording: Recording, files: str, outputs: Mapping[str, str], options: Mapping[str, Any]) -> PackedNetwork:
    """The networks of a recording's architecture that checkpoints hold, as one packed network."""
    import packify

    return packify.pack_members(paths(files), recording.example_inputs, model=recording.model, outputs=outputs, **options)
