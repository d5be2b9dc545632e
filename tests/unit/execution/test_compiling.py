from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch

import packify
from packify.execution.compiling import strategy_to_compile
from tests.unit.execution.networks import image, packed_convs


@pytest.mark.slow
def test_compiled_it_gives_the_same_and_members_are_unrolled() -> None:
    packed = packed_convs().eval()
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    with torch.no_grad():
        expected = packed(image())
        packed.compile(backend=backend, fullgraph=True)
        torch.testing.assert_close(packed(image()), expected)
    (graph,) = graphs
    convs = [node for node in graph.graph.nodes if node.op == "call_function" and "conv2d" in str(node.target)]
    assert len(convs) == 4 * 3
    assert strategy_to_compile(packed, torch.device("cpu")) == "in turn"


@pytest.mark.slow
def test_what_cannot_be_compiled_runs_as_it_is() -> None:
    packed = packed_convs().eval()

    def broken(*_: Any) -> Any:
        raise RuntimeError("no compiler here")

    expected = packed(image())
    packed.compile(backend=broken)
    with pytest.warns(packify.CompileWarning, match="no compiler here"):
        torch.testing.assert_close(packed(image()), expected)
    torch.testing.assert_close(packed(image()), expected)


@pytest.mark.slow
def test_copies_and_pickles_are_not_compiled() -> None:
    packed = packed_convs().eval()
    packed.compile(backend="eager")
    expected = packed(image())
    for other in (copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
        assert other._compiled_call_impl is None
        torch.testing.assert_close(other(image()), expected)
