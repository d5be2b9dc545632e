"""The ways of running a packed network's members, by name. All of them run the same parameters and give the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from packify.core.errors import SpecError
from packify.execution.cuda import on_streams
from packify.execution.in_turn import one_by_one
from packify.execution.kernels import with_batched_products, with_convs_per_member
from packify.execution.plans import Plans
from packify.execution.threads import over_threads
from packify.nn.packed_network import PackedNetwork

Outputs = tuple[Any, ...]
Run = Callable[[PackedNetwork, Plans, str, Sequence[Tensor]], Outputs | None]
"""Runs a network's graph of some inputs, ``"shared"`` or ``"independent"``; None where the network has to run as it is."""


@dataclass(frozen=True)
class Strategy:
    """A way to run members.

    Attributes:
        summary: what it does, in one line.
        run: does it.
        device: the type of device that it needs; any, if empty.
        rewrite: what it makes of a packed graph, if it runs such a one; the others run the member's.
    """

    summary: str
    run: Run
    device: str = ""
    rewrite: Callable[[fx.Graph, int], fx.Graph | None] | None = None

    def prepare(self, name: str, network: PackedNetwork, plans: Plans) -> None:
        """Make what `run` needs, so that a compiler that follows the first call finds it."""
        if self.rewrite is None:
            for mode in ("eval", "train"):
                plans.member_graph(network, mode)
        else:
            for graph in network.graphs.values():
                plans.rewritten(network, name, graph, self.rewrite)


def _grouped(network: PackedNetwork, plans: Plans, inputs_are: str, inputs: Sequence[Tensor]) -> None:
    return None


def _in_turn(network: PackedNetwork, plans: Plans, inputs_are: str, inputs: Sequence[Tensor]) -> Outputs:
    return plans.member_graph(network).run(inputs, independent=inputs_are == "independent", runner=one_by_one)


def _threads(network: PackedNetwork, plans: Plans, inputs_are: str, inputs: Sequence[Tensor]) -> Outputs:
    graph = plans.member_graph(network)
    alone = torch.compiler.is_compiling() or graph.draws() or any(one.device.type != "cpu" for one in inputs)
    return graph.run(inputs, independent=inputs_are == "independent", runner=one_by_one if alone else over_threads)


def _streams(network: PackedNetwork, plans: Plans, inputs_are: str, inputs: Sequence[Tensor]) -> Outputs:
    runner = on_streams if inputs and all(one.is_cuda for one in inputs) and not torch.compiler.is_compiling() else one_by_one
    return plans.member_graph(network).run(inputs, independent=inputs_are == "independent", runner=runner)


def _cuda_graph(network: PackedNetwork, plans: Plans, inputs_are: str, inputs: Sequence[Tensor]) -> Outputs:
    graph = plans.member_graph(network)
    plain = torch.is_grad_enabled() or network.training or not inputs or not all(one.is_cuda for one in inputs)
    if plain or torch.compiler.is_compiling():
        return graph.run(inputs, independent=inputs_are == "independent")
    key = (*graph.tensors.places(), torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda"), torch.is_inference_mode_enabled())
    return plans.captured.run(key, inputs, graph.run)


def _rewritten(name: str) -> Run:
    def run(network: PackedNetwork, plans: Plans, inputs_are: str, inputs: Sequence[Tensor]) -> Outputs | None:
        function = plans.rewritten(network, name, _packed_graph(network, inputs_are), STRATEGIES[name].rewrite)
        return None if function is None else function(network.body, *inputs)

    return run


def _packed_graph(network: PackedNetwork, inputs_are: str) -> Any:
    mode = "train" if network.training else "eval"
    if inputs_are == "independent":
        return network.graphs["independent" if network.training else "independent_eval"]
    return network.graphs[mode]


STRATEGIES: Mapping[str, Strategy] = {
    "grouped": Strategy("all members in one pass: grouped convs, batched linear layers", _grouped),
    "in turn": Strategy("one member after the other, on views of the packed parameters", _in_turn),
    "threads": Strategy("members in turn, spread over threads with one thread of torch each", _threads, "cpu"),
    "batched": Strategy(
        "all members in one pass; convs with kernels of size 1 as batched matrix products",
        _rewritten("batched"),
        rewrite=lambda graph, _: with_batched_products(graph),
    ),
    "per layer": Strategy(
        "all members in one pass; every conv once per member",
        _rewritten("per layer"),
        rewrite=with_convs_per_member,
    ),
    "streams": Strategy("members in turn, each on a CUDA stream of its own", _streams, "cuda"),
    "cuda graph": Strategy("members in turn, recorded and replayed as one CUDA graph; without gradients", _cuda_graph, "cuda"),
}
AUTO = "auto"


def require_known(name: object, suited: Collection[str] | None = None) -> str:
    """The name of a strategy, one of those that suit a network; by default all do.

    Raises:
        SpecError: there is no strategy of that name.
    """
    names = (AUTO, *(STRATEGIES if suited is None else suited))
    if isinstance(name, str) and name in names:
        return name
    what = "a packed network" if suited is None else "a network whose members share weights"
    known = ", ".join(map(repr, names))
    raise SpecError("strategy", found=repr(name), why=f"{what} is run in one of these ways: {known}", fix='set packed.strategy = "auto"')


def require_device(name: str, device: torch.device) -> None:
    """Check that a strategy can run on a device.

    Raises:
        SpecError: it needs another type of device.
    """
    wanted = "" if name == AUTO else STRATEGIES[name].device
    if wanted and device.type not in (wanted, "meta"):
        raise SpecError(
            f"strategy {name!r}",
            found=f"a network on {device}",
            why=f"it is a way to run members on a {wanted} device",
            fix=f'move the network there first: packed.to("{wanted}"), or set packed.strategy = "auto"',
        )
