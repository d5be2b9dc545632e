"""The app: which commands there are."""

from __future__ import annotations

import gc
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from packify.cli.bench_command import bench
from packify.cli.budget_command import budget
from packify.cli.card_command import card
from packify.cli.consolidate_command import consolidate
from packify.cli.convert_command import convert
from packify.cli.evaluate_command import evaluate
from packify.cli.export_command import export
from packify.cli.extract_command import extract
from packify.cli.failures import debugging, guarded, stop_on_signals
from packify.cli.fit_command import fit
from packify.cli.ops_command import ops
from packify.cli.sweep_command import sweep
from packify.cli.tune_command import tune
from packify.cli.verify_command import verify
from packify.core.graph_check import graph_checks
from packify.core.version import __version__

_COMMANDS = (convert, budget, fit, sweep, verify, evaluate, extract, export, tune, bench, card, consolidate, ops)


class PackifyGroup(TyperGroup):
    """The group of all commands; takes --debug before or after the name of the command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = args[: args.index("--")] if "--" in args else args
        debugging.set("--debug" in options)
        graph_checks.set("--debug" in options)
        return super().parse_args(ctx, [arg for position, arg in enumerate(args) if arg != "--debug" or position >= len(options)])


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"packify {__version__}")
        raise typer.Exit


app = typer.Typer(
    name="packify",
    cls=PackifyGroup,
    help="Turn any PyTorch network into a Packed-Ensemble: M narrow members in one network and one forward pass.",
    epilog="Exit codes: 0 fine, 1 the work failed, 2 the command line was wrong.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_show_version)] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error, and check graphs. May follow the command, too.")
    ] = False,
) -> None:
    """Options that come before any command."""


for _command in _COMMANDS:
    app.command(_command.__name__)(guarded(_command))


def main() -> None:
    """The `packify` program."""
    stop_on_signals()
    try:
        app()
    finally:
        gc.freeze()  # the process ends, and what is in memory goes with it: no search for garbage first, which takes a second
