"""From an error to one clear message on stderr and an exit code: 1 the work failed, 2 the command line was wrong."""

from __future__ import annotations

import contextlib
import errno
import functools
import signal
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import typer

from packify.cli.console import err
from packify.core.errors import BudgetError, PackifyError, SourceError, SpecError

FAILED, MISUSED = 1, 2
debugging: ContextVar[bool] = ContextVar("debugging", default=False)

_MISUSE = (SpecError, SourceError, BudgetError)


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with its errors shown instead of raised; under --debug they are raised."""

    @functools.wraps(command)
    def shown(*args: Any, **kwargs: Any) -> None:
        if debugging.get():
            command(*args, **kwargs)
            return
        try:
            command(*args, **kwargs)
        except PackifyError as error:
            show(error)
            raise typer.Exit(MISUSED if isinstance(error, _MISUSE) else FAILED) from None
        except KeyboardInterrupt as stop:
            with contextlib.suppress(OSError):  # the terminal may be what has gone
                err().print("Stopped. Nothing was left half-written.")
            raise typer.Exit(128 + getattr(stop, "number", signal.SIGINT)) from None
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise
            show(explained(error))
            raise typer.Exit(FAILED) from None

    return shown


class Stopped(KeyboardInterrupt):
    """What a signal that ends the program raises, so that whatever was being written is taken away."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def stop_on_signals() -> None:
    """Let the signals that end a program end it as Ctrl-C does, once; one that is ignored (nohup) stays so."""
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _stop)


def _stop(number: int, frame: Any) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise Stopped(number)


def explained(error: Exception) -> PackifyError:
    """An error of Python's or torch's as one with the four parts."""
    message = str(error).strip() or "no message"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return PackifyError("output", found=message, why="the disk is full", fix="free some space")
    if isinstance(error, MemoryError) or "can't allocate memory" in message or "out of memory" in message:
        return PackifyError(
            "memory",
            found=message[:1000],
            why="the network with this input needs more than there is",
            fix="choose a smaller --input-size or --alpha; `packify budget` tells the cost",
        )
    return PackifyError(
        "packify met something it did not foresee",
        found=f"{type(error).__name__}: {message[:1000]}",
        why="no rule of packify's raised this, so it may be a defect of packify's own",
        fix="run the command again with --debug and report the traceback",
    )


def show(error: PackifyError) -> None:
    """The four parts of an error on stderr."""
    from rich.text import Text

    text = Text()
    text.append("error: ", style="bold red").append(error.where, style="bold")
    for label, part in (("found", error.found), ("why", error.why), ("what to do", error.fix)):
        if part:
            text.append(f"\n  {label}: ", style="dim" if label != "what to do" else "green").append(part)
    if "leaves=" in error.fix:
        text.append("\n  leaves, concrete_args and pack_submodule are for Python: import packify", style="dim")
    err().print(text, soft_wrap=True)
