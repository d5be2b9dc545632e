from __future__ import annotations

import pytest
import torch
from torch import nn

import packify
from packify.execution.in_turn import MemberGraph
from packify.execution.lifting import CallOnTensors
from tests.unit.execution.networks import image, packed_convs


def test_the_function_takes_the_inputs_and_then_every_tensor() -> None:
    lifted = MemberGraph(packed_convs(), "train").lifted
    names = [f"{slot.path}.{slot.name}" for slot in lifted.slots]
    assert names[:3] == ["0.weight", "1.weight", "1.bias"]
    assert {slot.kind for slot in lifted.slots} == {"packed", "count"}
    assert [node.op for node in lifted.graph.nodes][: len(names) + 1] == ["placeholder"] * (len(names) + 1)


def test_a_tensor_that_is_read_twice_is_taken_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.layer(self.layer(x).relu()))

    packed = packify.pack(Tied(), torch.randn(2, 8), alpha=2, num_estimators=2)
    assert len(MemberGraph(packed, "eval").lifted.slots) == 4


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("settings", [{}, {"affine": False}, {"track_running_stats": False}])
@pytest.mark.parametrize("kind", [nn.BatchNorm2d, nn.InstanceNorm2d])
def test_norms_count_and_update_as_in_one_pass(kind: type[nn.Module], momentum: float | None, training: bool, settings: dict) -> None:
    torch.manual_seed(0)
    if kind is nn.InstanceNorm2d:
        settings = {"affine": True, "track_running_stats": True} | settings
    model = nn.Sequential(nn.Conv2d(3, 8, 3), kind(8, momentum=momentum, **settings), nn.Conv2d(8, 4, 3))
    grouped = packify.pack(model, image(), alpha=2, num_estimators=2).double().train(training)
    other = packify.pack(model, image(), alpha=2, num_estimators=2).double().train(training)
    grouped.strategy, other.strategy = "grouped", "in turn"
    for step in range(3):
        x = image().double() + step
        torch.testing.assert_close(other.members(x), grouped.members(x))
    for (name, mine), (_, theirs) in zip(other.named_buffers(), grouped.named_buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, msg=name)


def test_a_setting_that_is_changed_after_packing_is_used() -> None:
    packed = packed_convs().train()
    packed.strategy = "in turn"
    packed.members(image())
    packed.get_submodule("1").momentum = 1.0
    before = packed.get_buffer("1.running_mean").clone()
    packed.members(image())
    other = packed_convs().train()
    other.strategy = "grouped"
    other.get_submodule("1").momentum = 1.0
    other.members(image())
    assert not torch.equal(before, packed.get_buffer("1.running_mean"))
    torch.testing.assert_close(packed.get_buffer("1.running_mean"), other.get_buffer("1.running_mean"))


def test_a_module_is_called_on_given_tensors_and_keeps_its_own() -> None:
    layer = nn.Linear(2, 2)
    before = layer.weight.clone()
    out = CallOnTensors(("weight", "bias"))(layer, [torch.eye(2), torch.ones(2)], torch.zeros(1, 2))
    assert torch.equal(out, torch.ones(1, 2))
    assert torch.equal(layer.weight, before)


def test_recurrent_layers_get_the_members_tensors() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(6, 8, num_layers=2, batch_first=True), nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.lstm(x)[0])

    torch.manual_seed(0)
    x = torch.randn(2, 5, 6)
    packed = packify.pack(Recurrent(), x, alpha=2, num_estimators=2).eval()
    with torch.no_grad():
        packed.strategy = "grouped"
        expected = packed.members(x)
        packed.strategy = "in turn"
        torch.testing.assert_close(packed.members(x), expected)
    assert any(isinstance(node.target, CallOnTensors) for node in MemberGraph(packed, "eval").lifted.graph.nodes)
