from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx

import packify
from packify.capture.constants import constant_value, known_outcome
from packify.capture.graphs import record_graphs
from packify.nn.tree import is_constant
from tests.models import interfaces, sequences
from tests.models.catalogue import CASES
from tests.unit.capture.small import Small


def test_masks_that_depend_on_shapes_only() -> None:
    packed = packify.pack(sequences.Seq2Seq(), CASES["seq2seq"].inputs(), alpha=2, num_estimators=2)
    source, target = torch.randint(0, 11, (2, 4)), torch.randint(0, 13, (2, 5))
    assert packed.eval()(source, target).shape == (2, 5, 13)


def test_constants_of_the_code_are_shared() -> None:
    recorded = record_graphs(interfaces.Tables(), torch.randn(2, 5, 6))
    assert recorded.constants
    assert all(is_constant(name) for name in recorded.constants)


def _guarded(h: Tensor) -> Tensor:
    if not torch.isfinite(h).all():
        h = h.clamp(-1, 1)
    assert not torch.isnan(h).any(), "numbers are missing"
    if torch.isinf(h).any() or h.isnan().any() or torch.rand([]) < 0.0:
        raise ValueError(h)
    return h


def test_checks_that_every_network_in_order_passes_are_taken_to_pass() -> None:
    recorded = record_graphs(Small(_guarded), torch.randn(3, 5))
    assert recorded.batch
    assert {note.node for note in recorded.notes} == {"forward"}
    assert "clamp" not in {node.meta["op"] for node in recorded.graphs["eval"].nodes}


def test_layers_left_out_at_random_are_refused_by_their_reason() -> None:
    with pytest.raises(packify.TraceError, match="drawn at random"):
        record_graphs(Small(lambda h: h if torch.rand([]) < 0.5 else h * 2), torch.randn(3, 5))


def _last(function: Any) -> tuple[fx.Node, Any]:
    recorded = record_graphs(Small(function), torch.randn(2, 5))
    (output,) = recorded.graphs["eval"].find_nodes(op="output")
    return output.args[0][0], recorded


@pytest.mark.parametrize(
    "function",
    [
        lambda h: torch.arange(h.shape[1]) * 2 + 1,
        lambda h: torch.ones(h.shape[1], h.shape[1]).tril().bool(),
        lambda h: torch.zeros(3, device=h.device).to(h),
        lambda h: torch.linspace(0, 1, 4).type_as(h).sum(),
    ],
)
def test_what_depends_on_shapes_alone_has_a_value(function: Any) -> None:
    node, recorded = _last(function)
    found = constant_value(node, {}, recorded.constants)
    assert found is not None
    assert found.equal(function(torch.zeros(5, 4)))  # as recorded, at a batch of 5


@pytest.mark.parametrize(
    "function", [lambda h: h * 1, lambda h: torch.rand(4) + h.shape[1], lambda h: torch.arange(4) * h.sum(), torch.zeros_like]
)
def test_what_the_input_or_chance_is_in_has_none(function: Any) -> None:
    node, recorded = _last(function)
    assert constant_value(node, {}, recorded.constants) is None


@pytest.mark.parametrize(
    ("function", "outcome"),
    [
        (lambda h: torch.isfinite(h).all(), True),
        (lambda h: torch.isnan(h).any(), False),
        (lambda h: ~torch.isinf(h).any(), True),
        (lambda h: torch.logical_not(torch.isnan(h).any()), True),
        (lambda h: torch.isfinite(h).any(), None),
        (lambda h: torch.isnan(h).all(), None),
        (lambda h: torch.rand([]) < 0.0, False),
        (lambda h: torch.rand([]) < 1.0, True),
        (lambda h: torch.rand([]) >= 1.0, False),
        (lambda h: torch.rand([]) >= 0.0, True),
        (lambda h: torch.rand([]) < 0.5, None),
        (lambda h: (h > 0).any(), None),
    ],
)
def test_checks_whose_outcome_is_known(function: Any, outcome: bool | None) -> None:
    node, _ = _last(function)
    assert known_outcome(node) is outcome
