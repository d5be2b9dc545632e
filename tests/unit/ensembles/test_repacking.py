from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

import packify
from packify.core.errors import PackError
from packify.ensembles.repacking import RuleBook, packed_form, written_buffers
from packify.ops.table import RULES, merged
from tests.unit.ensembles.small import small_network


def _member(model: nn.Module, x: torch.Tensor) -> Any:
    return packify.record(model, x).slimmer.member(packify.Spec(2, 4))


def test_every_tensor_has_room_for_every_member() -> None:
    member = _member(small_network(), torch.randn(2, 3, 8, 8))
    root, graphs = packed_form(
        member.root, member.graphs, 4, member.layers, leaves=(), table=merged({}), device_of=lambda name: torch.device("meta")
    )
    own = dict((*member.root.named_parameters(), *member.root.named_buffers()))
    for name, tensor in (*root.named_parameters(), *root.named_buffers()):
        assert tensor.is_meta
        assert tuple(tensor.shape) == ((4 * own[name].shape[0], *own[name].shape[1:]) if own[name].dim() else ())
    assert graphs.keys() == {"eval", "train"}
    assert graphs["eval"] is graphs["train"]


class _Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.register_buffer("steps", torch.zeros(()))
        self.register_buffer("unread", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        return self.fc(x) * self.steps


def test_buffers_that_code_writes_to_hold_a_value_each() -> None:
    member = _member(_Counting(), torch.randn(2, 4))
    assert set(written_buffers(member.graphs)) == {"steps"}


def test_a_rule_book_keeps_the_users_rules() -> None:
    rule = RULES["tanh"]
    book = RuleBook({"own": rule})
    assert book.table["own"] is rule
    assert copy.deepcopy(book) is book


def test_rules_that_cannot_be_pickled_are_lost_and_said_to_be() -> None:
    book = pickle.loads(pickle.dumps(RuleBook({"own": lambda: None})))  # type: ignore[dict-item]
    with pytest.raises(PackError, match="cannot be pickled"):
        _ = book.table
    assert pickle.loads(pickle.dumps(RuleBook({}))).table.keys() == merged({}).keys()
