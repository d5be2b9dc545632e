from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import packify
from packify.capture import decompositions


@pytest.mark.parametrize("cell", [nn.GRUCell, nn.LSTMCell, nn.RNNCell])
def test_cells_shrink(cell: Any) -> None:
    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.out = cell(5, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            state = self.cell(x)
            return self.out(state[0] if isinstance(state, tuple) else state)

    packed = packify.pack(Step(), torch.randn(3, 5), alpha=1, num_estimators=2)
    assert packed.extract(0).get_parameter("out.weight").shape == (3, 4)


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("masks", ["none", "causal", "boolean", "per head", "padding", "both"])
@pytest.mark.parametrize("other_widths", [False, True])
def test_attention_is_torchs(batched: bool, need_weights: bool, masks: str, other_widths: bool) -> None:
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(8, 2, kdim=6 if other_widths else None, vdim=5 if other_widths else None).double().eval()
    lengths = (4, 4) if masks == "causal" else (3, 4)
    lead = (2,) if batched else ()
    query, key, value = (
        torch.randn(length, *lead, width, dtype=torch.float64)
        for length, width in zip((lengths[0], lengths[1], lengths[1]), (8, 6, 5) if other_widths else (8, 8, 8), strict=True)
    )
    given: dict[str, Any] = {"need_weights": need_weights}
    if masks == "causal":
        given["attn_mask"] = nn.Transformer.generate_square_subsequent_mask(4, dtype=torch.float64)
    if masks in ("boolean", "both"):
        given["attn_mask"] = torch.tensor([[False, True, False, False]] * 3)
    if masks == "per head":
        given["attn_mask"] = torch.randn(2 * (2 if batched else 1), 3, 4, dtype=torch.float64)
    if masks in ("padding", "both"):
        given["key_padding_mask"] = torch.tensor([[False, False, False, True], [False] * 4] if batched else [False, False, False, True])
        if masks == "both":
            given["key_padding_mask"] = given["key_padding_mask"].double().masked_fill(given["key_padding_mask"], float("-inf"))
            given["attn_mask"] = given["attn_mask"].double().masked_fill(given["attn_mask"], float("-inf"))
    out, weights = layer(query, key, value, **given)
    with _instead("multi_head_attention_forward", decompositions.multi_head_attention):
        found, own = layer(query, key, value, **given)
    torch.testing.assert_close(found, out)
    assert (own is None) == (weights is None)
    if weights is not None:
        torch.testing.assert_close(own, weights)


def _instead(name: str, function: Any) -> Any:
    patch = pytest.MonkeyPatch()
    patch.setattr(F, name, function)
    return contextlib.closing(SimpleNamespace(close=patch.undo))


MORE_KEYS = ({"add_bias_kv": True}, {"add_zero_attn": True}, {"add_bias_kv": True, "add_zero_attn": True}, {"bias": False})


@pytest.mark.parametrize("options", MORE_KEYS)
def test_attention_with_more_keys_is_torchs(options: dict[str, bool]) -> None:
    torch.manual_seed(0)
    layer, x = nn.MultiheadAttention(8, 2, **options).double().eval(), torch.randn(3, 2, 8, dtype=torch.float64)
    mask, padding = torch.zeros(3, 3, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    given = {"attn_mask": mask, "key_padding_mask": padding, "average_attn_weights": False}
    wanted = layer(x, x, x, **given)
    with _instead("multi_head_attention_forward", decompositions.multi_head_attention):
        found = layer(x, x, x, **given)
    torch.testing.assert_close(found[0], wanted[0])
    torch.testing.assert_close(found[1], wanted[1])


@pytest.mark.parametrize(
    ("cell", "function"),
    [
        (nn.GRUCell(3, 4), decompositions.gru_cell),
        (nn.LSTMCell(3, 4), decompositions.lstm_cell),
        (nn.RNNCell(3, 4), decompositions.rnn_tanh_cell),
        (nn.RNNCell(3, 4, bias=False, nonlinearity="relu"), decompositions.rnn_relu_cell),
    ],
)
def test_cells_are_torchs(cell: Any, function: Any) -> None:
    x, state = torch.randn(2, 3), torch.randn(2, 4)
    given = (state, torch.randn(2, 4)) if isinstance(cell, nn.LSTMCell) else state
    found = function(x, given, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
    torch.testing.assert_close(found, cell(x, given))


def test_types_and_tensors_of_tensors() -> None:
    x = torch.randn(3)
    assert decompositions.as_type(x) == x.type()
    for dtype in (torch.float64, "torch.DoubleTensor", torch.DoubleTensor):
        assert decompositions.as_type(x, dtype).dtype == torch.float64
    assert decompositions.as_tensor(x) is x
    assert decompositions.as_tensor(x, copy=True) is not x
    assert decompositions.as_tensor([1.0]) is NotImplemented
    assert decompositions.new_tensor(x.half(), np.ones(2)).dtype == torch.float16
    assert decompositions.new_tensor(x, [1, 2]) is NotImplemented


def test_writes_in_other_words() -> None:
    x, mask, source = torch.zeros(2, 3), torch.tensor([True, False]), torch.ones(2, 3)
    decompositions.set_where(x, mask, source)
    assert x.tolist() == [[1.0] * 3, [0.0] * 3]
    decompositions.set_part(x, "data", source * 2)
    assert x.sum() == 12
    out = torch.empty(3)
    assert decompositions.write_to(out, torch.add, torch.ones(3), 1) is out
    assert out.tolist() == [2.0] * 3
    parameter = nn.Parameter(torch.ones(2))
    assert decompositions.write_without_gradient(Tensor.mul_, parameter, 3) is parameter
    assert parameter.tolist() == [3.0, 3.0]


def test_one_tensor_joined_with_itself_is_repeated() -> None:
    x, y = torch.randn(2, 1, 3), torch.randn(2, 1, 3)
    assert decompositions.cat([x, x, x], 1).equal(torch.cat([x, x, x], 1))
    for tensors, dim in (([x, y], 1), ([x], 1), ([x, x], 0), ([], 0)):
        assert decompositions.cat(tensors, dim) is NotImplemented


def test_sublists_are_an_equation() -> None:
    x, y = torch.randn(2, 3), torch.randn(3, 4)
    for operands in ((x, [0, 1], y, [1, 2]), (x, [0, 1], y, [1, 2], [2, 0]), (x, [Ellipsis, 1], [Ellipsis])):
        assert decompositions.einsum(*operands).equal(torch.einsum(*operands))
    assert decompositions.einsum("ij->ji", x) is NotImplemented
