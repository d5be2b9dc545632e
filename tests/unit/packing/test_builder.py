"""What pack rules call: members brought together, and operators run once per member where nothing else is right."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from packify.nn.members import FRONT, PerMember, merge_members, relayout, repeat_members
from packify.packing.builder import PackBuilder, PackedValue, map_packed_values, packed_values_in
from tests.unit.ops.single import single

MEMBERS = 3


def _builder() -> PackBuilder:
    return PackBuilder(MEMBERS, nn.Module())


def _value(builder: PackBuilder, axis: int | None, *shape: int, name: str = "x") -> PackedValue:
    """A value of the packed graph, of some node of the member's."""
    member = fx.Graph().placeholder(name)
    node = builder.graph.placeholder(name)
    node.meta.update(val=torch.empty(shape, device="meta"), axis=axis, member_node=member)
    return PackedValue(node, axis, torch.empty(shape, device="meta"))


def _run(builder: PackBuilder, found: Any, *given: Tensor) -> Any:
    """What values of the packed graph are for these inputs."""
    values: dict[fx.Node, Any] = {}
    inputs = iter(given)
    for node in builder.graph.nodes:
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
        if node.op == "placeholder":
            values[node] = next(inputs)
        else:
            values[node] = getattr(args[0], node.target)(*args[1:], **kwargs) if node.op == "call_method" else node.target(*args, **kwargs)
    return values[found.node if isinstance(found, PackedValue) else found]


@pytest.mark.parametrize("source", [None, FRONT, 0, 1])
@pytest.mark.parametrize("target", [FRONT, 0, 1])
def test_members_go_to_any_axis(source: int | None, target: int) -> None:
    builder = _builder()
    value = _value(builder, source, 2, 4)
    moved = builder.to(value, target)
    members = torch.randn(MEMBERS, 2, 4)
    given = members[0] if source is None else merge_members(members, source)
    wanted = members[:1].expand(MEMBERS, -1, -1) if source is None else members
    assert _run(builder, moved, given).equal(merge_members(wanted, target))
    assert (moved.axis, moved.shape) == (target, (2, 4))
    assert (moved is value) is (source == target)


def test_only_what_copies_is_told() -> None:
    builder = _builder()
    builder.current = single(torch.relu, torch.ones(2)).node
    for axes, shape, count in (
        ((0, 1), (2, 4), 1),
        ((0, 1), (1, 4), 1),
        ((1, FRONT), (2, 4), 1),
        ((None, 1), (2, 4), 1),
        ((1, 0), (2, 4), 2),
        ((FRONT, 0), (2, 4), 2),
        ((FRONT, 1), (1, 4), 2),
        ((FRONT, 1), (2, 4), 3),
    ):
        builder.to(_value(builder, axes[0], *shape), axes[1])
        assert len(builder.relayouts) == count
    assert {node.target for node in builder.graph.nodes if node.op == "call_function"} <= {relayout, repeat_members}


def test_axes_in_front_and_back() -> None:
    builder = _builder()
    members = torch.randn(MEMBERS, 4)
    front = builder.front(_value(builder, 0, 4), ndim=3)
    assert _run(builder, front, merge_members(members, 0)).shape == (MEMBERS, 1, 1, 4)
    back = builder.back(front, torch.empty(1, 1, 4))
    assert (back.axis, _run(builder, back, merge_members(members, 0)).shape) == (0, (MEMBERS, 1, 4))
    shared = _value(builder, None, 4)
    assert builder.front(shared) is shared.node
    scalar = builder.back(front, torch.empty(()))
    assert scalar.axis == FRONT
    assert builder.back(front, 3) is front


def test_results_of_several_tensors_are_taken_apart() -> None:
    builder = _builder()
    node = builder.emit(torch.max, _value(builder, 0, 2, 4), 1)
    first, (second,) = builder.result(node, (torch.empty(2), [torch.empty(2)]), 0)
    assert (first.axis, second.axis) == (0, 0)
    assert builder.result(node, 3, 0) is node


def test_numbers_are_multiplied_by_members() -> None:
    builder = _builder()
    assert builder.times(4) == 12
    size = builder.graph.placeholder("size")
    assert _run(builder, builder.times(size), torch.tensor(5)) == 15


def test_an_operator_of_several_outputs_once_per_member() -> None:
    call = single(torch.max, torch.ones(2, 4), 1)
    (node,) = call.tensors
    builder = _builder()
    builder.current = call.node
    builder.env[node] = _value(builder, 1, 2, 4)
    values, indices = builder.fallback(call.node, why="for a test")
    members = torch.randn(MEMBERS, 2, 4)
    given = merge_members(members, 1)
    assert _run(builder, values, given).equal(members.max(2).values.flatten())
    assert _run(builder, indices, given).equal(members.max(2).indices.flatten())
    assert (builder.fallbacks[0].what, builder.fallbacks[0].why) == ("max runs once per member", "for a test")
    assert any(isinstance(one.target, PerMember) for one in builder.graph.nodes)


def test_what_is_emitted_knows_whose_it_is() -> None:
    call = single(torch.exp, torch.ones(2))
    builder = _builder()
    builder.current = call.node
    made = builder.emit(torch.neg, _value(builder, 0, 2))
    assert (made.meta["member_node"], made.meta["op"], made.meta["source"]) == (call.node, "exp", "here:1")
    last = made
    stranger = builder.graph.call_function(torch.neg, (made,))  # put there by a user's rule
    builder.stamp_since(last)
    assert stranger.meta["member_node"] is call.node


def test_values_in_nested_arguments() -> None:
    builder = _builder()
    one, two = _value(builder, 0, 2), _value(builder, None, 2, name="y")
    given = ({"a": [one]}, 3, slice(None), (two,))
    assert packed_values_in(given) == [one, two]
    assert map_packed_values(given, lambda value: value.axis) == ({"a": [0]}, 3, slice(None), (None,))
    assert builder.nodes(given) == ({"a": [one.node]}, 3, slice(None), (two.node,))
    assert (one.packed, two.packed, one.ndim) == (True, False, 1)
