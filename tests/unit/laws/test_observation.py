from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from packify.laws.observation import Batch, arguments, call, floating, observe, relative
from tests.unit.laws.networks import BATCH, packed


@pytest.mark.parametrize(
    ("inputs", "expected"), [(3, ((3,), {})), ((1, 2), ((1, 2), {})), ({"x": 1}, ((), {"x": 1})), ([1, 2], (([1, 2],), {}))]
)
def test_inputs_as_arguments(inputs: Any, expected: Any) -> None:
    assert arguments(inputs) == expected
    assert call(lambda *args, **kwargs: (args, kwargs), inputs) == expected


def test_floating_tensors_among_outputs() -> None:
    pair = torch.complex(torch.ones(2), torch.zeros(2)).conj()
    found = floating({"a": (torch.ones(3), torch.ones(3, dtype=torch.long)), "b": pair, "c": None})
    assert [tuple(tensor.shape) for tensor in found] == [(3,), (2, 2)]
    assert torch.equal(found[1], torch.tensor([[1.0, 0.0], [1.0, 0.0]]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("a", "b", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0),
        ([1.0, 2.0], [1.0, 4.0], 0.5),
        ([0.0, 0.0], [0.0, 0.0], 0),
        ([], [], 0),
        ([math.nan, 2.0], [math.nan, 2.0], 0),
        ([math.nan, 2.0], [math.nan, 1.0], 0.5),
        ([math.inf, 2.0], [math.inf, 2.0], 0),
        ([math.inf], [-math.inf], math.inf),
        ([1.0], [1.0, 1.0], math.inf),
    ],
)
def test_relative_differences(a: list[float], b: list[float], error: float, dtype: torch.dtype) -> None:
    found = relative(torch.tensor(a, dtype=dtype), torch.tensor(b, dtype=dtype))
    assert found == error or (math.isinf(error) and found >= 1)


def test_a_number_against_none_is_a_difference() -> None:
    assert relative(torch.tensor([math.nan, 1.0]), torch.tensor([3.0, 1.0])) > 0.5


def test_every_value_of_a_run_is_seen() -> None:
    network = packed().eval()
    watch, outputs = observe(network, BATCH)
    assert torch.equal(outputs[0], network.members(BATCH.values))
    assert {"linear", "tanh"} <= {node.meta.get("op") for node in watch.seen}
    assert all(isinstance(value, Tensor) for value in watch.seen.values())


def test_batches_of_one_for_all_and_of_one_each() -> None:
    network, x = packed(inputs="independent").train(), torch.arange(24.0, dtype=torch.float64).view(4, 6)
    shared, own = Batch(x), Batch(x, independent=True)
    assert (shared.form(network), own.form(network), shared.form(network.eval())) == ("train", "independent", "eval")
    assert torch.equal(shared.of(network, 1), x)
    assert torch.equal(own.of(network, 1), x[2:])
    (outputs,) = own.members(network.train())
    torch.testing.assert_close(outputs[1], network.extract(1)(x[2:]))
