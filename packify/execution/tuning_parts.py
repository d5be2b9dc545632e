"""Which parts of a packed network are faster in turn than grouped: each is timed alone on what the network gives it.

Parts that are alike, the blocks of a transformer, are timed once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from packify.core import nested
from packify.execution.measuring import Progress, measure_by_turns
from packify.execution.part_in_turn import PartInTurn, reason_against_turns
from packify.nn.packed_network import PackedNetwork
from packify.nn.ports import ports_of
from packify.nn.wrappers import part_of

LEAST_GAIN = 0.03
"""The share of its time that another way has to save, so that it is no chance."""


def parts_to_try(network: PackedNetwork) -> list[str]:
    """The outermost parts with weights that can be run in turn: stages, blocks and single layers, by dotted name, in order.

    Where the network is one such part and nothing else, the parts of that.
    """

    def inside(module: nn.Module, path: str) -> list[str]:
        found: list[str] = []
        for name, child in module._modules.items():
            own = f"{path}.{name}".lstrip(".")
            if child is None or not any(True for _ in child.parameters()):
                continue
            found += [own] if ports_of(child) and not reason_against_turns(network, own) else inside(child, own)
        return found

    found = inside(network.body, "")
    while len(found) == 1 and len(below := inside(part_of(network.body, found[0]), found[0])) > 0:
        found = below
    return found


def faster_in_turn(
    network: PackedNetwork, call: Callable[[], object], *, train: bool, device: torch.device, budget_s: float, progress: Progress | None
) -> list[str]:
    """The parts of `network` that take less time in turn; nothing where none does, or where there are no parts to choose among.

    Args:
        network: a copy that may be run, with strategy ``"grouped"``.
        call: runs it once.
        train: with a backward pass.
        device: where it is.
        budget_s: seconds, about.
        progress: is told how far it is.
    """
    paths = parts_to_try(network)
    given = _arguments_of(network, paths, call) if len(paths) > 1 else {}
    groups: dict[Any, list[str]] = {}
    for path in given:
        groups.setdefault(_likeness(part_of(network.body, path), given[path]), []).append(path)
    functions: dict[str, Callable[[], object]] = {}
    for first, *_ in groups.values():
        in_turn = PartInTurn(network, first, "train" if network.training else "eval")
        functions[f"{first}, grouped"] = _run(part_of(network.body, first), given[first], train)
        functions[f"{first}, in turn"] = _run(in_turn, given[first], train)
    if not functions:
        return []
    timings = measure_by_turns(functions, device=device, budget_s=budget_s, too_slow=float("inf"), progress=progress)
    found = []
    for paths in groups.values():
        grouped, in_turn_timing = (timings[f"{paths[0]}, {name}"] for name in ("grouped", "in turn"))
        if in_turn_timing.seconds and in_turn_timing.median < (1 - LEAST_GAIN) * grouped.median:
            found += paths
    return found


def _arguments_of(network: PackedNetwork, paths: list[str], call: Callable[[], object]) -> dict[str, tuple[Any, Any]]:
    """What each part is given in a call; nothing of those that are called several times."""
    seen: dict[str, list[tuple[Any, Any]]] = {path: [] for path in paths}

    def watch(path: str) -> Any:
        def keep(module: nn.Module, args: Any, kwargs: Any) -> None:
            seen[path].append((args, kwargs))

        return part_of(network.body, path).register_forward_pre_hook(keep, with_kwargs=True)

    handles = [watch(path) for path in paths]
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    return {path: calls[0] for path, calls in seen.items() if len(calls) == 1}


def _likeness(part: nn.Module, given: Any) -> Any:
    """Parts for which this is equal take the same time."""
    tensors = (*nested.leaves(given), *part.parameters())
    return type(part), tuple((tuple(leaf.shape), leaf.dtype) for leaf in tensors if isinstance(leaf, Tensor))


def _run(part: Callable[..., Any], given: Any, train: bool) -> Callable[[], object]:
    def fresh(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        own = leaf.detach()
        return (own.requires_grad_() if leaf.requires_grad else own).clone()

    def infer() -> None:
        with torch.no_grad():
            args, kwargs = nested.map_leaves(given, fresh)
            part(*args, **kwargs)

    def step() -> None:
        args, kwargs = nested.map_leaves(given, fresh)
        outputs = [leaf for leaf in nested.leaves(part(*args, **kwargs)) if isinstance(leaf, Tensor) and leaf.requires_grad]
        torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])

    return step if train else infer
