"""What becomes of each output: kept at the reference's shape, free to follow the members' widths, or not computed at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import fx

from packify.capture.graphs import MODES, RecordedGraphs
from packify.capture.unused import drop_unused
from packify.core import nested
from packify.core.errors import SpecError

OutputChoice = Literal["keep", "free", "drop"]


def choose_outputs(recorded: RecordedGraphs, choices: Mapping[str, str] | None) -> None:
    """Apply `choices` to the graphs of every mode, in place.

    A path names one output (``"logits"``, ``"hidden_states.3"``) or everything below it (``"hidden_states"``). A dropped output is None
    in what the network returns; a free one is not pinned to the reference's shape, and its members are never averaged.

    Raises:
        SpecError: a path names no output, a choice is unknown, or no tensor is left.
    """
    if not choices:
        return
    known = list(dict.fromkeys(path for mode in MODES for path in nested.paths(recorded.outputs[mode])))
    _check(choices, known)
    recorded.output_choices = dict(choices)
    for graph in {id(graph): graph for graph in recorded.graphs.values()}.values():
        mode = next(mode for mode in MODES if recorded.graphs[mode] is graph)
        (output,) = graph.find_nodes(op="output")
        chosen = [choice_of(path, choices) for path in nested.paths(recorded.outputs[mode])]
        leaves: Any = tuple(None if how == "drop" else leaf for leaf, how in zip(output.args[0], chosen, strict=True))
        if not any(isinstance(leaf, fx.Node) and isinstance(leaf.meta["val"], torch.Tensor) for leaf in leaves):
            raise _wrong("every tensor dropped", f"in {mode} mode the outputs are {known}", "keep one of them")
        output.args = (leaves,)
        output.meta["val"] = tuple(None if how == "drop" else value for value, how in zip(output.meta["val"], chosen, strict=True))
        output.meta["free"] = frozenset(index for index, how in enumerate(chosen) if how == "free")
        drop_unused(graph)


def choice_of(path: str, choices: Mapping[str, str]) -> str:
    """What was chosen for an output: by its own path, else by the longest path that it lies below, else ``"keep"``."""
    below = [key for key in choices if path == key or path.startswith(f"{key}.")]
    return choices[max(below, key=len)] if below else "keep"


def _check(choices: Any, known: list[str]) -> None:
    if not isinstance(choices, Mapping):
        raise _wrong(repr(choices)[:200], "outputs are chosen by their paths", 'pass outputs={"features": "free"}')
    for path, how in choices.items():
        if how not in get_args(OutputChoice):
            raise _wrong(
                f"{path!r}: {how!r}", f"an output is one of {', '.join(get_args(OutputChoice))}", f'pass outputs={{{path!r}: "free"}}'
            )
        if not any(path == one or one.startswith(f"{path}.") for one in known):
            raise _wrong(
                f"the path {path!r}",
                f"the outputs are {known}" if known != [""] else 'the only output has the path ""',
                "pass one of these",
            )


def _wrong(found: str, why: str, fix: str) -> SpecError:
    return SpecError("outputs", found=found, why=why, fix=fix)
