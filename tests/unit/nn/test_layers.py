"""Packed arithmetic against one layer per member."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from packify.nn.functional import affine, grouped_linear, packed_embedding, packed_linear
from packify.nn.layers import pack_layer
from packify.nn.tree import Scope, build_tree, is_plain_layer


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("lead", [(), (2,), (2, 5)])
def test_packed_linear(groups: int, bias: bool, lead: tuple[int, ...]) -> None:
    members, inp, out = 4, 6, 12
    x = torch.randn(members, *lead, inp, dtype=torch.float64)
    weight = torch.randn(members * out, inp // groups, dtype=torch.float64)
    offset = torch.randn(members * out, dtype=torch.float64) if bias else None
    result = packed_linear(x, weight, offset, members, groups)
    for member in range(members):
        own = weight.chunk(members)[member]
        full = torch.block_diag(*own.chunk(groups))
        expected = F.linear(x[member], full, None if offset is None else offset.chunk(members)[member])
        torch.testing.assert_close(result[member], expected)
        torch.testing.assert_close(
            grouped_linear(x[member], own, None if offset is None else offset.chunk(members)[member], groups), expected
        )


@pytest.mark.parametrize("packed", [True, False])
def test_packed_embedding(packed: bool) -> None:
    weight = torch.randn(3 * 5, 4, requires_grad=True)
    indices = torch.randint(0, 5, (3, 2, 6) if packed else (2, 6))
    result = packed_embedding(indices, weight, 3, packed, padding_idx=0)
    for member in range(3):
        own = indices[member] if packed else indices
        torch.testing.assert_close(result[member], weight.chunk(3)[member][own])
    result.sum().backward()
    assert weight.grad is not None
    assert not weight.grad[[0, 5, 10]].any()


def test_affine() -> None:
    x, weight, bias = torch.randn(3, 2, 5, 4), torch.randn(3, 4), torch.randn(3, 4)
    for member in range(3):
        torch.testing.assert_close(affine(x, weight, bias)[member], x[member] * weight[member] + bias[member])
    assert affine(x, None, None) is x


@pytest.mark.parametrize(
    ("make", "x", "axis"),
    [
        (lambda: nn.Linear(4, 6), torch.randn(2, 5, 4), 0),
        (lambda: nn.LayerNorm(4), torch.randn(2, 5, 4), 0),
        (lambda: nn.LayerNorm((5, 4)), torch.randn(2, 5, 4), 0),
        (lambda: nn.RMSNorm(4), torch.randn(2, 5, 4), 0),
        (nn.PReLU, torch.randn(2, 4, 3), 1),
        (lambda: nn.PReLU(4), torch.randn(2, 4, 3), 1),
        (lambda: nn.Conv2d(4, 6, 3), torch.randn(2, 4, 5, 5), 1),
        (lambda: nn.ConvTranspose2d(4, 6, 3), torch.randn(2, 4, 5, 5), 1),
        (lambda: nn.GroupNorm(2, 4), torch.randn(2, 4, 5), 1),
        (lambda: nn.Embedding(7, 4), torch.randint(0, 7, (2, 5)), 0),
    ],
)
def test_packed_layers_run_alone(make: object, x: torch.Tensor, axis: int) -> None:
    singles = [make() for _ in range(3)]
    with torch.no_grad():
        for single in singles:
            for parameter in single.parameters():
                parameter.copy_(torch.randn_like(parameter))
        packed = make()
        for name, _ in list(packed.named_parameters()):
            setattr(packed, name, nn.Parameter(torch.cat([getattr(single, name) for single in singles])))
        pack_layer(packed, 3)
        result = packed(torch.cat([x] * 3, axis))
        for share, single in zip(result.chunk(3, axis), singles, strict=True):
            torch.testing.assert_close(share, single(x))
    assert repr(packed)


def test_trees_keep_names_ties_and_plain_layers() -> None:
    model = nn.ModuleDict({"one": nn.Linear(3, 3), "two": nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())})
    model["one again"] = model["one"]
    model["two"][0].bias = model["one"].bias
    tree = build_tree(model, lambda name, tensor: torch.zeros_like(tensor))
    assert list(tree.state_dict()) == list(model.state_dict())
    assert tree["one"] is tree["one again"]
    assert tree["two"][0].bias is tree["one"].bias
    assert isinstance(tree["two"], Scope)
    assert is_plain_layer(tree["two"][0])
    assert len(tree["two"]) == 2
    with pytest.raises(RuntimeError, match="packed network"):
        tree["two"](torch.zeros(1))
