"""How members that share weights are packed: shared layers are called once, on ``"(m b) ..."``."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import packify
from packify.nn.scaling import mix_members, read_channels, scale_channels, shift_channels
from packify.ops.shared_rows import with_method_rows
from packify.ops.table import RULES


def test_every_operator_keeps_its_row_and_the_methods_have_theirs() -> None:
    rows = with_method_rows(RULES)
    assert RULES.keys() <= rows.keys()
    assert {scale_channels, shift_channels, read_channels, mix_members} <= rows.keys()
    assert all(rows[key].signature == RULES[key].signature for key in RULES)
    assert RULES.keys().isdisjoint({scale_channels, mix_members})


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(4, 4, 3, padding=1, groups=2), nn.ConvTranspose2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4)],
    ids=str,
)
def test_a_shared_layer_is_called_once_for_all_members(layer: nn.Module) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), layer, nn.Flatten(), nn.Linear(4 * 16, 5)).double()
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    network = packify.batch_ensemble(model, x, num_estimators=3, average="probs").eval()
    seen: list[torch.Size] = []
    network.get_submodule("1").register_forward_hook(lambda _module, args, _output: seen.append(args[0].shape))
    outputs = network.members(x)
    assert [shape[0] for shape in seen] == [3 * 2]
    torch.testing.assert_close(outputs, torch.stack([network.extract(member)(x) for member in range(3)]))
