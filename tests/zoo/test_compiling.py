"""`torch.compile` sees every family's packed network as one graph, in evaluation and in training."""

from __future__ import annotations

import pytest
import torch

from tests.zoo import calls, numeric
from tests.zoo.architectures import Architecture

pytestmark = pytest.mark.families


@pytest.mark.filterwarnings("ignore")  # what a network's own code warns of is no outcome
@pytest.mark.quick_cases(1)
@pytest.mark.parametrize("one", calls.families(), ids=lambda one: one.label)
def test_a_family_compiles_without_graph_breaks(one: Architecture) -> None:
    model, inputs = numeric.small(one)
    packed = numeric.packed(model, inputs)
    for training in (False, True):
        torch.compiler.reset()
        compiled = torch.compile(packed.train(training), backend="eager", fullgraph=True)
        with torch.no_grad():
            compiled(*(inputs if isinstance(inputs, tuple) else (inputs,)))
