"""On GPUs: members on streams of their own, and the members' whole pass as one CUDA graph."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from packify.execution.in_turn import Call

_streams: dict[tuple[int, int], list[torch.cuda.Stream]] = {}


def on_streams(calls: Sequence[Call]) -> list[tuple[Any, ...]]:
    """One call per member, each on a stream of its own, so that kernels of small members run at the same time.

    In a backward pass autograd runs every operator on the stream of its forward pass.
    """
    current = torch.cuda.current_stream()
    key = (torch.cuda.current_device(), len(calls))
    streams = _streams.setdefault(key, [])
    while len(streams) < len(calls):
        streams.append(torch.cuda.Stream())
    results = []
    for call, stream in zip(calls, streams, strict=True):
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            results.append(call())
    for stream, outputs in zip(streams, results, strict=True):
        current.wait_stream(stream)
        for output in outputs:
            if isinstance(output, Tensor):
                output.record_stream(current)
    return results


class CapturedPasses:
    """Forward passes without gradients, each recorded once as a CUDA graph and replayed.

    Launching kernels takes most of the time of small members; a replay launches them all at once. A graph reads the memory that it was
    recorded with, so inputs are copied there and outputs copied out. Weights may change in place; other tensors make another graph.
    """

    MOST = 8
    """Graphs that are kept, those used last; each has memory of its own."""

    def __init__(self) -> None:
        self._passes: OrderedDict[Any, tuple[torch.cuda.CUDAGraph, list[Tensor], tuple[Any, ...]]] = OrderedDict()

    def run(self, key: Any, inputs: Sequence[Tensor], forward: Callable[[Sequence[Tensor]], tuple[Any, ...]]) -> tuple[Any, ...]:
        """The outputs of ``forward(inputs)``, which is run by Python only the first time that it is asked for under `key`.

        Args:
            key: what decides which kernels run, besides the inputs' shapes: mode, dtype of autocast, the network's tensors.
            inputs: on a CUDA device.
            forward: may not depend on numbers of a tensor, and writes in place where it writes.
        """
        full = (key, *((tuple(one.shape), one.stride(), one.dtype, one.device) for one in inputs))
        if full not in self._passes:
            self._passes[full] = self._recorded(inputs, forward)
            if len(self._passes) > self.MOST:
                self._passes.popitem(last=False)
        self._passes.move_to_end(full)
        graph, places, outputs = self._passes[full]
        for place, given in zip(places, inputs, strict=True):
            place.copy_(given)
        graph.replay()
        return tuple(output.clone() if isinstance(output, Tensor) else output for output in outputs)

    @staticmethod
    def _recorded(
        inputs: Sequence[Tensor], forward: Callable[[Sequence[Tensor]], tuple[Any, ...]]
    ) -> tuple[torch.cuda.CUDAGraph, list[Tensor], tuple[Any, ...]]:
        places = [one.clone() for one in inputs]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # libraries choose their kernels and take their memory before anything is recorded
            for _ in range(2):
                forward(places)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = forward(places)
        return graph, places, outputs
