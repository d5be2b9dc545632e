"""`packify verify`: the laws, checked on an artefact."""

from __future__ import annotations

from packify.cli.console import out, print_json, steps
from packify.cli.loading import load_packed
from packify.cli.options import ArtefactArgument, FactoryArgs, Json, Quiet, ReferenceOption


def verify(
    directory: ArtefactArgument, model: ReferenceOption = None, arg: FactoryArgs = None, json: Json = False, quiet: Quiet = False
) -> None:
    """Check the laws on an artefact: each packed member equals itself alone, and no member sees another."""
    with steps(3, quiet or json) as step:
        with step("import", "importing torch"):
            from packify.laws.verification import verify as check
        with step("load", f"loading {directory}"):
            packed = load_packed(directory, model, arg)
        with step("verify", "checking the laws"):
            verification = check(packed)
    if json:
        print_json({"artefact": str(directory), "verification": verification.to_dict(), "seconds": step.seconds})
    elif not quiet:
        out().print(f"[green]✓[/green] {directory}: {verification}", soft_wrap=True)
