"""Products and sums: which sizes a weight decides, and members in every layout."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from packify.ops import contraction
from tests.unit.ops.calls import CONTRACTIONS, places, real
from tests.unit.ops.single import check_packing, check_widths, dims_of, packed_call, single


@pytest.mark.parametrize("name", CONTRACTIONS)
def test_packed_calls_are_the_members_calls(name: str) -> None:
    check_packing(*CONTRACTIONS[name])


@pytest.mark.parametrize("name", CONTRACTIONS)
def test_any_sizes_that_the_dims_allow_fit(name: str) -> None:
    check_widths(*CONTRACTIONS[name])


def test_the_sizes_of_outputs_are_those_of_weights_and_inputs() -> None:
    assert check_widths(F.linear, real(4, 5, 6), real(7, 6), real(7)) == [None, None, None]
    assert check_widths(F.embedding, places(4, below=9), real(9, 6)) == [4, None]
    assert check_widths(F.scaled_dot_product_attention, real(2, 4, 3, 5), real(2, 4, 6, 5), real(2, 4, 6, 7)) == [None, None, 3, None]


def test_a_weight_of_a_layer_asks_for_a_width() -> None:
    walk, (rows, columns) = dims_of(single(F.linear, real(4, 6), real(7, 6)))
    weight = walk.parameters.dims["t1"]
    assert columns.root() is weight[0].root()
    assert len(columns.root().demands) == 1
    assert weight[1].root().read
    assert not rows.root().demands
    assert walk.parameters.dims["t0"][1].root() is weight[1].root()


def test_a_vocabulary_is_pinned() -> None:
    walk, _ = dims_of(single(F.embedding, places(4, below=9), real(9, 6)))
    assert walk.parameters.dims["t1"][0].root().pin.why == "a vocabulary"


@pytest.mark.parametrize(
    ("equation", "ranks", "terms", "output"),
    [
        ("ij,jk->ik", [2, 2], ["ij", "jk"], "ik"),
        (" ij , jk -> ki ", [2, 2], ["ij", "jk"], "ki"),
        ("ij,jk", [2, 2], ["ij", "jk"], "ik"),
        ("ba", [2], ["ba"], "ab"),
        ("ii", [2], ["ii"], ""),
    ],
)
def test_the_labels_of_an_equation(equation: str, ranks: list[int], terms: list[str], output: str) -> None:
    assert contraction.einsum_terms(equation, ranks) == (terms, output)


@pytest.mark.parametrize("equation", ["...c,dc->...d", "...c,...c->...", "...,...", "a...,...a", "...ij,jk"])
def test_ellipses_written_out_compute_the_same(equation: str) -> None:
    operands = [real(2, 3, 4), real(5, 4) if "d" in equation else real(4, 4, 5)[0] if "k" in equation else real(2, 3, 4)]
    if equation == "a...,...a":
        operands[1] = real(3, 4, 2)
    terms, output = contraction.einsum_terms(equation, [tensor.dim() for tensor in operands])
    labels = {label: chr(ord("A") + index) for index, label in enumerate(sorted(set("".join(terms))))}
    plain = ",".join("".join(labels[label] for label in term) for term in terms) + "->" + "".join(labels[label] for label in output)
    torch.testing.assert_close(torch.einsum(plain, *operands), torch.einsum(equation, *operands))


@pytest.mark.parametrize("dims", [0, 1, 2, ([0], [2]), ([-1, 0], [0, -1])])
def test_a_tensordot_is_an_einsum(dims: Any) -> None:
    a, b = real(3, 3, 3), real(3, 3, 3) + 1
    equation = contraction.tensordot_equation((3, 3), dims)
    torch.testing.assert_close(torch.einsum(equation, a, b), torch.tensordot(a, b, dims))


def test_a_shared_input_of_a_linear_is_read_once_for_all_members() -> None:
    builder = packed_call(F.linear, (None, 0, 0), real(4, 6), real(7, 6), real(7))
    assert [node.target for node in builder.graph.nodes if node.op == "call_function"] == [F.linear]
    assert not builder.relayouts + builder.fallbacks


@pytest.mark.parametrize("name", ["linear", "matmul", "attention", "einsum", "embedding", "bilinear", "outer", "tensordot"])
def test_no_member_runs_alone(name: str) -> None:
    call = CONTRACTIONS[name]
    tensors = [item for item in call[1:] if isinstance(item, Tensor)]
    layout = tuple(0 if tensor.is_floating_point() else None for tensor in tensors)
    assert not packed_call(call[0], layout, *call[1:]).fallbacks
