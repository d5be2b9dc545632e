"""What calls give without data."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from packify.capture.values import call_on_meta, filled, on_meta, random, recurrent_result


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"batch_first": True}, {"proj_size": 3}])
@pytest.mark.parametrize("shape", [(5, 2, 6), (5, 6)])
def test_recurrent_layers_give_what_torch_gives(kind: Any, options: dict[str, Any], shape: tuple[int, ...]) -> None:
    if "proj_size" in options and kind is not nn.LSTM:
        options = {}
    layer, x = kind(6, 8, **options), torch.randn(shape)
    wanted, found = layer(x), recurrent_result(layer, x.to("meta"))
    assert found[0].shape == wanted[0].shape
    states = ((found[1], wanted[1]),) if isinstance(found[1], Tensor) else zip(found[1], wanted[1], strict=True)
    assert all(own.shape == other.shape for own, other in states)


def test_arguments_with_and_without_data() -> None:
    given = {"x": torch.zeros(2, 3), "n": [1, torch.zeros(2, dtype=torch.long)], "device": torch.device("cpu")}
    without = on_meta(given)
    assert (without["x"].is_meta, without["n"][1].dtype, without["device"].type) == (True, torch.long, "meta")
    drawn = random(without)
    assert drawn["x"].std() > 0
    assert drawn["n"][1].tolist() == [0, 0]
    assert drawn["device"].type == "cpu"


def test_a_module_without_data_gets_some_and_the_original_none() -> None:
    with torch.device("meta"):
        layer = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    layer[0].forward = lambda x: x  # type: ignore[method-assign] # as a recording puts there
    found = filled(layer).eval()
    assert found(torch.ones(2, 2)).shape == (2, 3)
    assert all(tensor.is_meta for tensor in layer.parameters())
    assert not any(tensor.requires_grad for tensor in found.parameters())


@pytest.mark.parametrize(
    ("name", "function", "args", "kwargs"),
    [
        ("to", Tensor.to, ("cpu",), {}),
        ("to", Tensor.to, (torch.device("cpu"), torch.float16), {}),
        ("to", Tensor.to, (), {"device": "cpu"}),
        ("cpu", Tensor.cpu, (), {}),
        ("cuda", Tensor.cuda, (), {}),
        ("new_zeros", Tensor.new_zeros, ((2, 3),), {"device": "cpu"}),
        ("sum", Tensor.sum, (0,), {}),
    ],
)
def test_whatever_device_the_code_names(name: str, function: Any, args: Any, kwargs: Any) -> None:
    found = call_on_meta(name, function, (torch.zeros(4, 3), *args), kwargs)
    assert found.is_meta
    if name != "cuda":
        wanted = function(torch.zeros(4, 3), *args, **kwargs)
        assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
