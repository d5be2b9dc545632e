"""Members' outputs of every kind of ensemble, and the one output that is measured."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from packify.core.errors import DataError
from packify.evaluation.prediction import as_networks, call_members, in_eval_mode, is_packed, member_outputs, select_output


class _Packed(nn.Module):
    """A stand-in for a packed network whose member m adds m."""

    num_estimators = 3

    def members(self, x: Tensor) -> Tensor:
        return x + torch.arange(3.0)[:, None, None]


class _Two(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> dict[str, Any]:
        return {"sum": a + b, "note": "two", "pair": (a, b)}


def test_wrappers_are_taken_off_and_lists_kept_in_order() -> None:
    packed, single = _Packed(), nn.Linear(2, 2)
    averaged = torch.optim.swa_utils.AveragedModel(single)
    assert as_networks(packed) == [packed]
    assert as_networks((single, packed)) == [single, packed]
    assert as_networks(nn.ModuleList([single, packed])) == [single, packed]
    assert as_networks([averaged, nn.DataParallel(packed, device_ids=[])]) == [averaged.module, packed]
    # a Sequential is one network, although it holds several
    assert len(as_networks(nn.Sequential(single, single))) == 1


@pytest.mark.parametrize("wrong", [[], None, 3, [nn.Identity(), 3], nn.ModuleList()])
def test_no_networks(wrong: Any) -> None:
    with pytest.raises(DataError, match="Deep Ensemble"):
        as_networks(wrong)


def test_a_packed_network_is_known_by_its_number_and_its_members() -> None:
    assert is_packed(_Packed())
    assert not is_packed(nn.Linear(2, 2))
    assert not is_packed(SimpleNamespace(num_estimators=3, members=None))
    assert not is_packed(SimpleNamespace(num_estimators=None, members=len))


def test_modes_come_back_after_an_error() -> None:
    network = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()))
    network[1].eval()
    with in_eval_mode([network, network]):
        assert not any(module.training for module in network.modules())
    with pytest.raises(DataError), in_eval_mode([network]):
        as_networks(None)  # type: ignore[arg-type]
    assert [module.training for module in network.modules()] == [True, True, False, False]


def test_members_follow_one_another() -> None:
    x = torch.randn(4, 2)
    found = member_outputs([_Packed(), nn.Identity(), nn.Tanh()], x)
    torch.testing.assert_close(found, torch.stack((x, x + 1, x + 2, x, x.tanh())))


@pytest.mark.parametrize("inputs", [(torch.ones(2, 3), torch.ones(2, 3)), {"b": torch.ones(2, 3), "a": torch.ones(2, 3)}])
def test_inputs_by_position_and_by_name(inputs: Any) -> None:
    assert member_outputs([_Two()], inputs, "sum").equal(torch.full((1, 2, 3), 2.0))


def test_all_outputs_keep_their_structure() -> None:
    a, b = torch.randn(2, 3), torch.randn(2, 3)
    one, several = call_members([_Two()], (a, b)), call_members([_Two(), _Two()], (a, b))
    assert one["note"] == several["note"] == "two"
    assert one["pair"][1].equal(b[None])
    assert several["pair"][1].equal(torch.stack((b, b)))


class _Named(NamedTuple):
    hidden: Tensor
    out: Tensor


def test_the_output_that_is_measured() -> None:
    a, b = torch.randn(2, 3), torch.randn(2, 4)
    assert select_output((a,)) is a
    assert select_output({"loss": None, "x": a}) is a
    assert select_output({"aux": b, "out": a}) is a
    assert select_output({"out": b, "logits": a}) is a
    assert select_output(_Named(b, a)) is a
    assert select_output(_Named(b, a), "hidden") is select_output(_Named(b, a), 0) is b
    assert select_output(SimpleNamespace(x=a, y=b), "y") is b
    assert select_output(a, 0) is a
    for wrong, output in (((a, b), None), ((a, b), 2), ((a, b), "logits"), (a, 1), ({"logits": "text"}, None), (object(), None)):
        with pytest.raises(DataError):
            select_output(wrong, output)
