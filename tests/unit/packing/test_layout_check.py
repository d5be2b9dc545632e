"""Packed graphs broken by hand: members that meet, and values whose layout is a lie."""

from __future__ import annotations

import operator

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

import packify
from packify.core.errors import GraphBroken
from packify.ops.table import RULES
from packify.packing.builder import PackBuilder, PackedValue
from packify.packing.layout_check import check_layouts

MEMBERS = 2


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.mix, self.head = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        x = x.flatten(2).transpose(1, 2)
        return self.head((self.mix(x) * x.sigmoid()).mean(1))


def _packed() -> tuple[fx.Graph, nn.Module]:
    packed = packify.pack(_Net(), torch.randn(2, 3, 4, 4), alpha=2, num_estimators=MEMBERS)
    return packed.graphs["eval"], packed.body


def _node(graph: fx.Graph, op: str) -> fx.Node:
    return next(node for node in graph.nodes if node.meta["op"] == op and "axis" in node.meta)


def _check(graph: fx.Graph, root: nn.Module) -> None:
    check_layouts(graph, root, MEMBERS)


def test_a_packed_graph_holds() -> None:
    _check(*_packed())


def test_a_layout_of_another_axis() -> None:
    graph, root = _packed()
    _node(graph, "conv2d").meta["axis"] = 0
    with pytest.raises(GraphBroken, match="members on axis 0"):
        _check(graph, root)


def test_a_layout_of_an_axis_that_is_not_there() -> None:
    graph, root = _packed()
    _node(graph, "conv2d").meta["axis"] = 4
    with pytest.raises(GraphBroken, match="axis 4 of 4"):
        _check(graph, root)


def test_a_members_tensor_of_another_shape() -> None:
    graph, root = _packed()
    node = _node(graph, "sigmoid")
    node.meta["val"] = node.meta["val"].new_empty(2, 16, 3)
    with pytest.raises(GraphBroken, match="M = 2 members make"):
        _check(graph, root)


def test_a_conv_with_the_groups_of_one_member() -> None:
    graph, root = _packed()
    node = _node(graph, "BatchNorm2d")
    with graph.inserting_after(node):
        conv = graph.call_function(F.conv2d, (node, _node(graph, "get_attr")))
    conv.meta = {**node.meta, "op": "conv2d"}
    with pytest.raises(GraphBroken, match="does not run"):
        _check(graph, root)


def test_members_that_meet_in_a_sum() -> None:
    """Numbers come out, of the right shape: of member 0's rows and both members' columns."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.one(x) * 2

    packed = packify.pack(Twice(), torch.randn(5, 4), alpha=2, num_estimators=MEMBERS)
    graph, root = packed.graphs["eval"], packed.body
    node = _node(graph, "mul")
    builder = PackBuilder(MEMBERS, root, graph, current=node.meta["member_node"])
    (source,) = node.all_input_nodes
    with graph.inserting_before(node):
        rows = builder.to(PackedValue(source, source.meta["axis"], source.meta["val"]), 0)
        columns = builder.emit(torch.narrow, next(iter(graph.find_nodes(op="get_attr", target="one.bias"))), 0, 0, 4)
        half = builder.result(columns, rows.val.new_empty(2), 0)
        builder.result(builder.emit(torch.add, rows, half), rows.val, 0)
    with pytest.raises(GraphBroken, match="they meet"):
        _check(graph, root)


def test_a_tensor_without_a_layout_that_another_call_reads() -> None:
    graph, root = _packed()
    node = _node(graph, "sigmoid")
    del node.meta["axis"]
    with pytest.raises(GraphBroken, match="without a layout"):
        _check(graph, root)


def test_a_users_rule_that_lies_is_named() -> None:
    def pack(builder: PackBuilder, node: fx.Node, x: PackedValue, *args: object) -> object:
        return builder.result(builder.emit(operator.neg, x), node.meta["val"], 1 - x.axis)

    class Negative(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.two(-self.one(x))

    rule = packify.Rule("lies", RULES["neg"].widths, pack)
    with pytest.raises(GraphBroken, match="members on axis"):
        packify.pack(Negative(), torch.randn(3, 4), alpha=2, num_estimators=MEMBERS, rules={"neg": rule})


def test_a_layer_that_members_share_takes_them_as_samples() -> None:
    network = packify.batch_ensemble(_Net(), torch.randn(2, 3, 4, 4), num_estimators=MEMBERS, average="mean")
    graph, shared = (
        network.graphs["eval"],
        {"norm.weight", "norm.bias", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"},
    )
    check_layouts(graph, network.body, MEMBERS, shared)
    norm = next(node for node in graph.nodes if node.op == "call_module" and node.target == "norm")
    assert norm.meta["axis"] == 0
    with pytest.raises(GraphBroken, match="they meet"):
        check_layouts(graph, network.body, MEMBERS)
