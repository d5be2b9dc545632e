from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch

import packify
from packify.execution import defaults
from packify.execution.compiling import strategy_to_compile
from tests.unit.execution.networks import image, packed_convs


@pytest.mark.slow
@pytest.mark.parametrize(("least_work", "convs_of_a_pass"), [(1e3, 4 * 3), (250e6, 3)])
def test_compiled_it_gives_the_same_and_members_with_enough_to_do_are_unrolled(
    least_work: float, convs_of_a_pass: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(defaults, "LEAST_WORK", least_work)
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
    assert len(convs) == convs_of_a_pass
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
