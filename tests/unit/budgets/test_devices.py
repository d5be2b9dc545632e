from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import packify
from packify.budgets.devices import check_mesh, output_bytes, parse_mesh, plan
from packify.core.errors import BudgetError


def _recording() -> packify.Recording:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(16, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
    return packify.record(model, torch.empty(2, 16, device="meta"))


def _plan(mesh: dict[str, int], **options: Any) -> Any:
    own = _recording().budget(alpha=2 * 4 / 4 / mesh["member"], num_estimators=4 // mesh["member"])
    return plan(own.packed, own.member, mesh, 4 // mesh["member"], batch=64, **options)


def test_members_over_devices_divide_everything() -> None:
    one, four = _plan({"member": 1, "data": 1}), _plan({"member": 4, "data": 1})
    assert one.gradient_bytes == 4 * four.gradient_bytes
    assert one.optimizer_bytes == 2 * one.gradient_bytes
    assert one.activation_bytes > 3 * four.activation_bytes
    assert four.activation_bytes == four.activation_bytes_in_turn
    assert [(each.axis, each.collective) for each in four.traffic if each.when == "training step"] == [("member", "none")]
    packed = _recording().budget(alpha=2, num_estimators=4).packed
    assert one.weight_bytes == packed.total_weight_bytes
    assert one.gradient_bytes == packed.param_bytes


def test_data_divides_the_batch_and_fsdp_the_weights() -> None:
    ddp, fsdp = _plan({"member": 2, "data": 4}), _plan({"member": 2, "data": 4}, parallel="fsdp", optimizer="sgd")
    assert ddp.activation_bytes == _plan({"member": 2, "data": 1}).activation_bytes // 4
    assert fsdp.gradient_bytes == -(-ddp.gradient_bytes // 4)
    assert fsdp.optimizer_bytes == 0
    assert fsdp.gathered_bytes == ddp.gradient_bytes
    sent = {each.collective: each.payload_bytes for each in ddp.traffic if each.axis == "data"}
    assert sent == {"all-reduce": ddp.gradient_bytes}


def test_what_fits() -> None:
    found = _plan({"member": 1, "data": 1})
    assert found.fits == ""
    for memory, fits in ((found.total_bytes, "side by side"), (found.total_bytes - 1, "in turn"), (found.state_bytes - 1, "no")):
        assert _plan({"member": 1, "data": 1}, memory_bytes=memory).fits == fits
    assert _plan({"member": 1, "data": 1}, memory_bytes=1).to_dict()["fits"] == "no"


def test_outputs() -> None:
    graphs = _recording().graphs
    assert graphs.batch is not None
    assert output_bytes(graphs.graphs["eval"], graphs.batch) == 40


def test_meshes() -> None:
    assert parse_mesh("member=4,data=8") == {"member": 4, "data": 8}
    assert parse_mesh("data=2") == {"member": 1, "data": 2}
    check_mesh({"member": 4, "data": 8}, 8, 64)


@pytest.mark.parametrize("text", ["", "4", "member=0", "member=2,member=2", "tensor=2", "member=2;data=2", "member=-1", "member=2,"])
def test_what_is_no_mesh(text: str) -> None:
    with pytest.raises(BudgetError, match="member=4,data=8"):
        parse_mesh(text)


@pytest.mark.parametrize(("mesh", "says"), [({"member": 3, "data": 1}, "member=3"), ({"member": 1, "data": 7}, "data=7")])
def test_what_does_not_divide(mesh: dict[str, int], says: str) -> None:
    with pytest.raises(BudgetError, match=says):
        check_mesh(mesh, 8, 64)


def test_unknown_words() -> None:
    for options in ({"optimizer": "magic"}, {"parallel": "pipe"}):
        with pytest.raises(BudgetError, match="known ones"):
            _plan({"member": 1, "data": 1}, **options)
