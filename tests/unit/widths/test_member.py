"""A member's graph: run while it is copied, so that whatever does not fit is a conflict at its node."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from packify import PackError
from packify.core.spec import Spec
from packify.nn.subgroups import Subgroups
from packify.ops.table import RULES
from packify.widths.assignment import Sizes
from packify.widths.dims import fixed, free
from packify.widths.member import predicted, shapes_of, stand_in, with_gamma
from packify.widths.slimming import slim
from tests.unit.widths.small import analysed, node_of

X = torch.randn(2, 4)


def test_predicted_shapes_are_nested_as_values_are() -> None:
    width = free(8)
    sizes = Sizes({width: 5}, {})
    value = (torch.zeros(2, 8), [torch.zeros(8), 3], "word")
    dims = ([fixed(2), width], ([width], None), None)
    assert predicted(dims, value, sizes) == ((2, 5), ((5,), None), None)
    assert shapes_of(value) == ((2, 8), ((8,), None), None)
    assert predicted(None, 3, sizes) is None


def test_a_stand_in_has_the_predicted_shape_and_the_dtype_of_the_value() -> None:
    value = (torch.zeros(2, 8, dtype=torch.float16), 3)
    one, number = stand_in(value, ((2, 5), None))
    assert (one.shape, one.dtype, number) == ((2, 5), torch.float16, 3)
    assert stand_in(torch.zeros(4), None).shape == (4,)


def test_gamma_multiplies_the_groups_of_a_layers_call() -> None:
    analysis = analysed(lambda net, x: net.fc(net.conv(x[..., None])[..., 0]), X, conv=nn.Conv1d(4, 8, 1, groups=2), fc=nn.Linear(8, 8))
    conv, linear = (node_of(analysis, name) for name in ("conv1d", "linear"))
    x = torch.randn(2, 4, 1)
    target, args, kwargs = with_gamma(conv, conv.target, (x, torch.randn(8, 1, 1), None, (1,), (0,), (1,), 2), {}, Subgroups(2, 2))
    assert target(*args, **kwargs).shape == (2, 8, 1)  # 4 groups of 1 channel: the weight has one input channel
    weight = torch.randn(8, 4)
    target, args, kwargs = with_gamma(linear, linear.target, (torch.ones(2, 8), weight), {}, Subgroups(1, 2))
    torch.testing.assert_close(target(*args, **kwargs), weight.sum(1).expand(2, 8))
    target, args, kwargs = with_gamma(linear, linear.target, (x := torch.randn(2, 8), weight), {}, Subgroups(1, 2, (4, 4)))
    rows = [F.linear(x.chunk(2, 1)[half], part.chunk(2)[half]) for part in weight.chunk(2) for half in (0, 1)]
    torch.testing.assert_close(target(*args, **kwargs), torch.cat(rows, 1))


def test_a_conv_whose_output_is_cut_into_parts_reads_its_rows_by_subgroup() -> None:
    convs = {"stem": nn.Conv1d(4, 8, 1), "conv": nn.Conv1d(8, 16, 1), "head": nn.Conv1d(8, 2, 1)}
    analysis = analysed(lambda net, x: net.head(F.glu(net.conv(net.stem(x[..., None])), 1)), X, **convs)
    graph = slim(analysis.recorded, Spec(1, 1, 2, "uniform"), RULES).graphs["eval"]
    names = [str(node.meta["op"]) for node in graph.nodes if node.meta.get("path") == "conv" and node.op == "call_function"]
    assert names == ["by_group", "by_group", "conv1d", "by_part"]
    (conv,) = [node for node in analysis.recorded.graphs["eval"].nodes if node.meta.get("path") == "conv" and node.meta["op"] == "conv1d"]
    recorded = {node.meta["op"]: node.meta["recorded"] for node in graph.nodes if node.meta.get("path") == "conv"}
    assert (recorded["conv1d"], recorded["by_group"], recorded["by_part"]) == ((), (), (conv.name,))


def test_every_node_of_a_member_knows_the_reference_and_its_gamma() -> None:
    recorded = analysed(lambda net, x: net.b(net.a(x).relu()), X, a=nn.Linear(4, 8), b=nn.Linear(8, 3)).recorded
    member = slim(recorded, Spec(1, 2), RULES)
    relu = next(node for node in member.graphs["eval"].nodes if node.meta["op"] == "relu")
    assert (relu.meta["val"].shape, relu.meta["reference"].shape, relu.meta["gamma"]) == ((5, 4), (5, 8), 1)  # recorded at a batch of 5
    assert {node.name for node in member.graphs["eval"].nodes} == {node.name for node in recorded.graphs["eval"].nodes}


def _rule(**changes: Any) -> dict[Any, Any]:
    return {**RULES, "relu": dataclasses.replace(RULES["relu"], **changes)}


@pytest.mark.parametrize(
    "widths",
    [
        lambda propagation, x: [x.dims[0], free(8)],  # another width than its input's
        lambda propagation, x: [x.dims[0], fixed(8)],
    ],
)
def test_a_rule_that_says_another_width_than_the_operator_gives_is_found_out(widths: Any) -> None:
    rules = _rule(widths=widths)
    recorded = analysed(lambda net, x: net.b(net.a(x).relu()), X, rules, a=nn.Linear(4, 8), b=nn.Linear(8, 3)).recorded
    member = slim(recorded, Spec(1, 2), rules)
    # the conflict keeps what meets there as the reference has it, and the member runs
    assert member.root.a.weight.shape == (8, 4)
    assert any("relu" in note.why or "relu" in note.what for note in member.pins)


def test_a_refit_that_raises_names_the_node() -> None:
    def refit(call: Any, x: Any) -> Any:
        raise ValueError("no such size")

    rules = _rule(refit=refit)
    recorded = analysed(lambda net, x: net.a(x).relu(), X, rules, a=nn.Linear(4, 8)).recorded
    with pytest.raises((PackError, ValueError), match="no such size"):
        slim(recorded, Spec(1, 2), rules)
