"""What is known at once is what torch gives: shapes, dtypes and strides, and refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from packify.capture.shapes import known_result


def _t(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.ones(shape, dtype=dtype)


_CALLS: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
    (F.linear, (_t(2, 3), _t(4, 3)), {}),
    (F.linear, (_t(2, 5, 3), _t(4, 3), _t(4)), {}),
    (F.linear, (_t(2, 3, 5).transpose(1, 2), _t(4, 3)), {"bias": _t(4)}),
    (F.linear, (_t(0, 3), _t(4, 3)), {}),
    (F.layer_norm, (_t(2, 5, 4), (4,), _t(4), _t(4), 1e-6), {}),
    (F.layer_norm, (_t(2, 5, 4), [5, 4]), {}),
    (F.layer_norm, (_t(2, 4, 5).transpose(1, 2), (4,)), {"weight": _t(4), "bias": None}),
    (F.layer_norm, (_t(2, 4, 5, dtype=torch.float64), (5,)), {}),
    (F.scaled_dot_product_attention, (_t(2, 3, 5, 4), _t(2, 3, 7, 4), _t(2, 3, 7, 6)), {}),
    (F.scaled_dot_product_attention, (_t(2, 5, 4), _t(2, 5, 4), _t(2, 5, 4)), {"is_causal": True, "dropout_p": 0.0}),
    (F.gelu, (_t(2, 3),), {}),
    (F.gelu, (_t(2, 3, 4).permute(2, 0, 1),), {"approximate": "tanh"}),
    (F.batch_norm, (_t(2, 3), _t(3), _t(3)), {}),
    (F.batch_norm, (_t(2, 3, 5), _t(3), _t(3), _t(3), _t(3), True, 0.1, 1e-5), {}),
    (F.batch_norm, (_t(2, 3, 4, 5).contiguous(memory_format=torch.channels_last), _t(3), _t(3), _t(3), _t(3)), {"training": True}),
    (F.batch_norm, (_t(2, 3, 4, 5).contiguous(memory_format=torch.channels_last), _t(3), _t(3), _t(3), _t(3)), {}),
    (F.batch_norm, (_t(2, 3, 4, 5), None, None), {"training": True}),
    (F.batch_norm, (_t(2, 3, 4, 5, 2), _t(3), _t(3)), {"bias": None}),
    (F.group_norm, (_t(2, 6, 5), 3, _t(6), _t(6)), {}),
    (F.group_norm, (_t(2, 6, 4, 5), 2), {"eps": 1e-3}),
    (F.relu, (_t(2, 3),), {}),
    (F.relu6, (_t(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),), {}),
    (F.hardswish, (_t(2, 3, dtype=torch.float64),), {"inplace": True}),
    (F.hardsigmoid, (_t(2, 3),), {}),
    (F.mish, (_t(2, 3),), {}),
    (torch.relu, (_t(2, 3),), {}),
    (torch.Tensor.clamp, (_t(2, 3), 0.0, 6), {}),
    (torch.clamp, (_t(2, 3),), {"max": 1}),
    (F.dropout, (_t(2, 3),), {}),
    (F.dropout, (_t(2, 3), 0.2, True, True), {}),
]
_REFUSED: list[tuple[Any, tuple[Any, ...]]] = [
    (F.linear, (_t(2, 3), _t(4, 5))),
    (F.linear, (_t(2, 3), _t(4, 3), _t(5))),
    (F.linear, (_t(2, 3), _t(4, 3, dtype=torch.float64))),
    (F.layer_norm, (_t(2, 5), (4,))),
    (F.layer_norm, (_t(2, 5), (5,), _t(4))),
    (F.scaled_dot_product_attention, (_t(2, 5, 4), _t(2, 5, 3), _t(2, 5, 4))),
    (F.gelu, (_t(2, 3, dtype=torch.long),)),
    (F.gelu, (_t(2, 3), "none", 3)),
    (F.batch_norm, (_t(2, 3, 4), _t(2), _t(2))),
    (F.batch_norm, (_t(2, 3, 4), None, None)),
    (F.batch_norm, (_t(1, 3), _t(3), _t(3), None, None, True)),
    (F.group_norm, (_t(2, 6, 4), 4)),
    (F.group_norm, (_t(1, 2), 2)),
    (F.hardswish, (_t(2, 3, dtype=torch.long),)),
    (torch.clamp, (_t(2, 3),)),
    (F.dropout, (_t(2, 3), 1.5)),
]


def _on_meta(values: Any) -> Any:
    return torch.utils._pytree.tree_map(lambda leaf: leaf.to("meta") if isinstance(leaf, Tensor) else leaf, values)


@pytest.mark.parametrize(("function", "args", "kwargs"), _CALLS)
def test_as_torch_gives_it_with_data(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    with torch.no_grad():
        expected, found = function(*args, **kwargs), known_result(function, _on_meta(args), _on_meta(kwargs))
    assert found is not None
    assert found.is_meta
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    if function is not F.scaled_dot_product_attention:  # kernels differ in strides; on meta they are contiguous
        assert found.stride() == expected.stride()


@pytest.mark.parametrize(("function", "args"), _REFUSED)
def test_what_torch_refuses_is_left_to_torch(function: Any, args: tuple[Any, ...]) -> None:
    with torch.no_grad():
        assert known_result(function, _on_meta(args), {}) is None
        with pytest.raises((RuntimeError, TypeError, ValueError)):
            function(*args)


def test_masks_and_grouped_heads_are_left_to_torch() -> None:
    x = _t(2, 3, 5, 4).to("meta")
    with torch.no_grad():
        for kwargs in ({"attn_mask": _t(5, 5).to("meta")}, {"enable_gqa": True}):
            assert known_result(F.scaled_dot_product_attention, (x, x, x), kwargs) is None
        assert known_result(F.scaled_dot_product_attention, (x, x, x, None, 0.0, False), {}) is not None


def test_other_layouts_and_dtypes_are_left_to_torch() -> None:
    with torch.device("meta"), torch.no_grad():
        views = (_t(2, 4, 3).transpose(1, 2), _t(2, 1, 4).expand(2, 3, 4), _t(4, 6)[:, ::2], _t(2, 3, 4, dtype=torch.long), _t(2, 0, 4))
        for view in views:
            assert known_result(F.relu, (view,), {}) is None
        assert known_result(F.batch_norm, (views[0], _t(3), _t(3)), {}) is None
        assert known_result(F.group_norm, (_t(2, 6, 4, dtype=torch.float16), 2, _t(6), _t(6)), {}) is None


def test_history_is_left_to_torch() -> None:
    assert known_result(F.gelu, (_t(2).to("meta"),), {}) is None
    with torch.no_grad():
        assert known_result(torch.add, (_t(2).to("meta"), 1), {}) is None
