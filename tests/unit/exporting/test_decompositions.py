from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from packify.exporting.decompositions import decompose_by_tracing, decompose_in_place, rewrite_for_onnx
from packify.exporting.deployment import Deployment
from packify.exporting.programs import program_of
from tests.unit.exporting.networks import Biased, packed_of

X = torch.randn(2, 3, 8, 8)
TABLE = torch.export.default_decompositions()


def _program(network: nn.Module, x: Tensor = X, average: Any = "mean") -> ExportedProgram:
    return program_of(Deployment(network, x, ("mean", "members", "uncertainty"), average).eval(), [x], dynamic=True)


def _operators(program: ExportedProgram) -> set[str]:
    return {str(node.target) for node in program.graph.nodes if node.op == "call_function"}


class Parts(nn.Module):
    """Operators that are taken apart: with several results, one that is its own input, one that is read twice, one with a constant."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.movedim(1, -1).to(torch.float32)
        values, _ = torch.std_mean(y, -1, correction=1)
        return torch.special.entr(values.sigmoid()).flatten(1) - 2 * values.to(torch.float32).reshape(x.shape[0], -1)


@pytest.mark.slow
def test_only_what_has_a_decomposition_is_exchanged() -> None:
    program = _program(Parts())
    names = _operators(program)
    assert {"aten.movedim.int", "aten.special_entr.default", "aten.std_mean.correction"} <= names
    table = {operator: TABLE[operator] for operator in (torch.ops.aten.special_entr.default, torch.ops.aten.std_mean.correction)}
    decompose_in_place(program)
    found = program.run_decompositions(table)
    assert found is program
    left = _operators(program)
    assert not left & {"aten.movedim.int", "aten.special_entr.default", "aten.std_mean.correction", "aten.to.dtype"}
    assert {"aten.sigmoid.default", "aten.permute.default", "aten.reshape.default"} <= left
    assert all("nn_module_stack" in node.meta for node in program.graph.nodes if node.target is torch.ops.aten.permute.default)
    for batch in (1, 2, 5):
        x = torch.randn(batch, 3, 8, 8)
        torch.testing.assert_close(found.module()(x)["mean"], Parts()(x))


def test_batch_norms_of_evaluation() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten()).eval()
    network[0].running_mean.fill_(0.3)  # type: ignore[operator, union-attr]
    program = _program(network)
    decompose_in_place(program)
    assert program.run_decompositions({}) is program
    assert "aten._native_batch_norm_legit_no_training.default" in _operators(program)
    torch.testing.assert_close(program.module()(X)["mean"], network(X))


def test_3d_convs_without_a_bias() -> None:
    """Under their own name the exporter gives them a bias of two axes."""
    kept = nn.Conv3d(4, 4, 3, stride=(1, 2, 1), padding=(0, 1, 2))
    network = nn.Sequential(
        nn.Conv3d(2, 4, 3, bias=False), kept, nn.Conv3d(4, 2, (1, 2, 1), dilation=(1, 2, 1), groups=2, bias=False)
    ).eval()
    x = torch.randn(2, 2, 6, 8, 8)
    program = _program(network, x)
    rewrite_for_onnx(program)
    names = [str(node.target) for node in program.graph.nodes if "conv" in str(node.target)]
    assert names == ["aten.convolution.default", "aten.conv3d.default", "aten.convolution.default"]
    torch.testing.assert_close(program.module()(x)["mean"], network(x))


class Attention(nn.Module):
    """Attention within windows: images of 3 windows, 2 heads, 4 positions, with a bias of each shape that broadcasts."""

    def __init__(self, axes: tuple[int, ...], bias: tuple[int, ...] | None) -> None:
        super().__init__()
        self.axes, self.bias = axes, None if bias is None else torch.randn(bias)

    def forward(self, x: Tensor) -> Tensor:
        q = x.reshape(-1, *self.axes)
        return nn.functional.scaled_dot_product_attention(q, 2 * q, q + 1, self.bias, scale=0.5).flatten(1)


@pytest.mark.parametrize(
    ("axes", "bias"),
    [
        ((3, 2, 4, 5), None),
        ((3, 2, 4, 5), (4, 4)),
        ((3, 2, 4, 5), (2, 4, 4)),
        ((3, 2, 4, 5), (1, 3, 1, 1, 4)),
        ((4, 30), None),
        ((4, 30), (4, 1)),
        ((4, 30), (1, 4, 4)),
        ((2, 4, 15), (2, 1, 4)),
    ],
    ids=str,
)
def test_attention_is_over_four_axes(axes: tuple[int, ...], bias: tuple[int, ...] | None) -> None:
    network = Attention(axes, bias)
    program = _program(network, torch.randn(2, 120))
    rewrite_for_onnx(program)
    (attention,) = program.graph.find_nodes(op="call_function", target=torch.ops.aten.scaled_dot_product_attention.default)
    assert [one.meta["val"].dim() for one in attention.args[:3]] == [4, 4, 4]
    for batch in (2, 3):
        x = torch.randn(batch, 120)
        torch.testing.assert_close(program.module()(x)["mean"], network(x))


@pytest.mark.slow
def test_what_writes_is_traced_again() -> None:
    class Writes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x.clone()
            y[:, 0] += 1
            return torch.special.entr(y.sigmoid()).flatten(1)

    program = _program(Writes())
    decompose_in_place(program)
    found = program.run_decompositions({torch.ops.aten.special_entr.default: TABLE[torch.ops.aten.special_entr.default]})
    assert found is not program
    assert not any(name.partition(".default")[0][-1] == "_" for name in _operators(found))
    torch.testing.assert_close(found.module()(X)["mean"], Writes()(X))


@pytest.mark.slow
def test_a_network_of_tokens() -> None:
    network = packed_of(Biased())
    program = _program(network, average=None)
    table = {operator: how for operator, how in TABLE.items() if "entr" in str(operator) or "softmax" in str(operator)}
    decompose_in_place(program)
    run = program.run_decompositions(table).module()
    for batch in (1, 5):
        x = torch.randn(batch, 3, 8, 8)
        for name, value in Deployment(network, X, ("mean", "members", "uncertainty")).eval()(x).items():
            torch.testing.assert_close(run(x)[name], value, atol=1e-6, rtol=1e-5)


def test_torchs_own_way_comes_back() -> None:
    program = _program(Parts())
    own = program.run_decompositions
    decompose_in_place(program)
    assert program.run_decompositions != own
    decompose_by_tracing(program)
    assert program.run_decompositions == own
