"""`packify verify`: the laws, checked on an artefact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from packify.cli.console import out, print_json, steps
from packify.cli.loading import load_packed
from packify.cli.options import ArtefactArgument, FactoryArgs, Json, Quiet, ReferenceOption

if TYPE_CHECKING:
    from rich.table import Table

    from packify.laws.signals import Signal
    from packify.nn.packed_network import PackedNetwork

SignalOption = Annotated[
    bool,
    typer.Option(
        "--signal",
        help="Also build the reference anew and show, layer by layer, the signals of fresh members of these widths next to its own.",
    ),
]


def verify(
    directory: ArtefactArgument,
    model: ReferenceOption = None,
    arg: FactoryArgs = None,
    signal: SignalOption = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check the laws on an artefact: each packed member equals itself alone, and no member sees another."""
    with steps(4 if signal else 3, quiet or json) as step:
        with step("import", "importing torch"):
            from packify.laws.verification import verify as check
        with step("load", f"loading {directory}"):
            packed = load_packed(directory, model, arg)
        with step("verify", "checking the laws"):
            verification = check(packed)
        found = None
        if signal:
            with step("signal", "comparing fresh members with a fresh reference"):
                found = _signal(directory, packed, model, arg)
    if json:
        document: dict[str, Any] = {"artefact": str(directory), "verification": verification.to_dict(), "seconds": step.seconds}
        print_json(document | ({"signal": found.to_dict()} if found is not None else {}))
    elif not quiet:
        if found is not None:
            out().print(signal_table(found))
            out().print(str(found), soft_wrap=True)
        out().print(f"[green]✓[/green] {directory}: {verification}", soft_wrap=True)


def _signal(directory: Path, packed: PackedNetwork, model: str | None, arg: list[str] | None) -> Signal:
    """The signals of fresh members at the artefact's widths: what is saved in it may be trained.

    Raises:
        ArtefactError: its members have the reference's widths.
        SourceError: nobody says how the reference is built.
    """
    import torch

    from packify import artefact, sources
    from packify.core.errors import ArtefactError, SourceError
    from packify.core.spec import Spec
    from packify.ensembles.shortcuts import pack
    from packify.laws.signals import signal

    config = artefact.read_config(artefact.located(directory))
    source = config.source
    if not isinstance(config.spec, Spec):
        raise ArtefactError(
            str(directory),
            found=f"members of {config.spec.method}, as wide as the reference",
            why="--signal asks what narrower layers do to signals",
            fix="verify it without --signal",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if model is not None:
            args = dict(source.args) if source is not None and source.kind == sources.parse_name(model)[0] else {}
            reference = sources.resolve(model, args=args | dict(map(sources.parse_argument, arg or ()))).model
        elif source is not None:
            reference = sources.rebuild(source, "cpu")
        else:
            raise SourceError(
                str(directory),
                found="no name of the reference",
                why="--signal compares fresh members with a fresh reference, which is built anew",
                fix="pass --model path/to/file.py:factory",
            )
    example = torch.utils._pytree.tree_map_only(torch.Tensor, torch.zeros_like, packed.example_inputs)
    fresh = pack(reference, example, **config.spec.to_dict(), leaves=packed.leaves, outputs=config.outputs, inputs=config.inputs)
    return signal(fresh, reference)


def signal_table(found: Signal) -> Table:
    """Layer by layer, the standard deviations of what the reference and a member put out."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("layer")
    table.add_column("operator")
    for label in ("reference std", "member std", "ratio"):
        table.add_column(label, justify="right", no_wrap=True)
    for layer in (*found.layers, *found.outputs):
        style = "" if layer.is_within else "yellow"
        table.add_row(layer.name, layer.kind, f"{layer.reference:.3g}", f"{layer.member:.3g}", f"{layer.ratio:.3g}", style=style)
    return table
