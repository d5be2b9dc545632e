"""How each output of a packed network is averaged: as the user says, else by its shape and by the operator that makes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from packify.capture.operators import traits_of
from packify.core import nested
from packify.core.errors import SpecError
from packify.nn.averaging import AVERAGES, default_average, origin
from packify.widths.slimming import Member


def averages_of(member: Member, average: Any, rules: Mapping[Any, Any]) -> dict[str, list[str]]:
    """Per mode, one word for each output.

    Raises:
        SpecError: `average` names an output that there is not, or a way that is not known.
    """
    paths = {mode: nested.paths(output) for mode, output in member.recorded.outputs.items()}
    known = {path for mode in paths for path in paths[mode]}
    if isinstance(average, Mapping) and not average.keys() <= known:
        raise _no_average(f"{', '.join(map(repr, average.keys() - known))} among the outputs", f"the outputs are {sorted(known)}")
    if isinstance(average, (list, tuple)) and len(average) != len(paths["eval"]):
        raise _no_average(f"{len(average)} for {len(paths['eval'])} outputs", f"the outputs are {paths['eval']}")
    result = {}
    for mode, graph in member.graphs.items():
        (output,) = graph.find_nodes(op="output")
        leaves = output.args[0]
        result[mode] = [
            _average_of(leaf, path, index, average, rules) for index, (leaf, path) in enumerate(zip(leaves, paths[mode], strict=True))
        ]
    return result


def _average_of(leaf: Any, path: str, index: int, average: Any, rules: Mapping[Any, Any]) -> str:
    how = average
    if isinstance(average, Mapping):
        how = average.get(path)
    elif isinstance(average, (list, tuple)):
        how = average[index] if index < len(average) else None
    if how is not None and how not in AVERAGES:
        raise _no_average(repr(how), f"outputs are averaged as one of {', '.join(AVERAGES)}")
    if not hasattr(leaf, "meta"):
        return str(how or "mean")
    chosen = default_average(leaf.meta["val"], traits_of(rules, origin(leaf, lambda node: traits_of(rules, node))))
    value = leaf.meta["val"]
    numbers = isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())
    return chosen if how is None or (how != "none" and not numbers) else str(how)


def _no_average(found: str, why: str) -> SpecError:
    return SpecError("average", found=found, why=why, fix='pass average="probs" for logits, average="mean" for values')
