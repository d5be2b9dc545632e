"""The graph of one call alone: what it computes, and what its parameters are called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from packify.packing.small_graphs import layout_of, small_graph
from tests.unit.packing.trees import Network, calls_of, cut


def _told(graph: fx.Graph) -> list[str]:
    return [str(node.target) for node in graph.nodes if node.op in ("call_module", "get_attr")]


def test_names_are_relative_to_the_module() -> None:
    _, frames, ports, _ = cut(Network())
    (outer,), (first, second) = calls_of(frames, "outer"), calls_of(frames, "outer.inner")
    assert _told(small_graph(frames, ports, frames.root).graph) == ["stem", "outer"]
    assert _told(small_graph(frames, ports, outer).graph) == ["inner", "same", "inner", "drop"]
    for frame, names in ((first, ["x"]), (second, ["x", "scale"])):
        small = small_graph(frames, ports, frame)
        assert _told(small.graph) == ["fc"]
        assert list(small.inputs) == names


def test_a_small_graph_alone_computes_what_the_module_does() -> None:
    torch.manual_seed(0)
    model, x = Network().eval(), torch.randn(3, 4)
    _, frames, ports, _ = cut(model)
    first, second = calls_of(frames, "outer.inner")
    run = fx.Interpreter(model.outer.inner, graph=small_graph(frames, ports, first).graph).run(x)
    torch.testing.assert_close(run, model.outer.inner(x))
    run = fx.Interpreter(model.outer.inner, graph=small_graph(frames, ports, second).graph).run(x, torch.tensor(3.0))
    torch.testing.assert_close(run, model.outer.inner(x, scale=3.0))
    run = fx.Interpreter(model.outer, graph=small_graph(frames, ports, calls_of(frames, "outer")[0]).graph).run(x)
    torch.testing.assert_close(run, model.outer(x))


@dataclass
class _Pair:
    left: Any
    right: Any


class _Structured(nn.Module):
    def forward(self, pair: Any, *, more: Any) -> Any:
        return {"sum": pair.left + more["a"][0], "pair": _Pair(pair.right, None)}


class _Uses(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = _Structured()

    def forward(self, x: Tensor) -> Tensor:
        found = self.part(_Pair(x, x * 2), more={"a": [x.exp()]})
        return found["sum"] * found["pair"].left


def test_structures_are_taken_apart_and_put_together() -> None:
    model, x = _Uses(), torch.randn(3, 4)
    _, frames, ports, _ = cut(model)
    (part,) = calls_of(frames, "part")
    small = small_graph(frames, ports, part)
    assert list(small.inputs) == ["pair", "more"]
    found = fx.Interpreter(model.part, graph=small.graph).run(_Pair(x, x * 2), {"a": [x.exp()]})
    torch.testing.assert_close(found["sum"], x + x.exp())
    assert isinstance(found["pair"], _Pair)
    whole = small_graph(frames, ports, frames.root)
    found = fx.Interpreter(model, graph=whole.graph).run(x)
    torch.testing.assert_close(found[0] if isinstance(found, (tuple, list)) else found, model(x))


def test_layouts_of_values() -> None:
    graph, _, _, _ = cut(Network())
    shapes = {node.meta["op"]: layout_of(node) for node in graph.nodes if "op" in node.meta}
    assert shapes["tanh"] is not None
    assert (shapes["tanh"].axis, shapes["tanh"].shape[1:], shapes["tanh"].dtype) == (None, (4,), torch.float32)
    assert shapes["size"] is None


def test_the_run_of_the_network_has_no_record() -> None:
    _, frames, ports, _ = cut(Network())
    small = small_graph(frames, ports, frames.root)
    assert small.call.args == ()
    assert list(small.inputs) == ["x"]
    with pytest.raises(StopIteration):
        next(iter(frames.root.needs))
