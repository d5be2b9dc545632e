"""Groups of convs: their number or their size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import packify
from packify.capture.graphs import record_graphs
from packify.core.spec import Spec
from packify.ops.table import RULES
from packify.widths.slimming import Slimmer


class _Grouped(nn.Module):
    def __init__(self, width: int = 32, groups: int = 4) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, width, 3), nn.BatchNorm2d(width)
        self.grouped, self.depthwise = nn.Conv2d(width, 2 * width, 3, groups=groups), nn.Conv2d(2 * width, 2 * width, 3, groups=2 * width)
        self.up, self.head = nn.ConvTranspose2d(2 * width, width, 2, groups=groups), nn.Conv2d(width, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        return self.head(self.up(self.depthwise(self.grouped(x).relu()).relu()).relu()).mean((2, 3))


def _member(spec: Spec, slimmer: Slimmer | None = None) -> Any:
    slimmer = slimmer or Slimmer(record_graphs(_Grouped(), torch.randn(2, 3, 9, 9)), RULES)
    return slimmer.member(spec)


def test_keep_and_scale_side_by_side() -> None:
    slimmer = Slimmer(record_graphs(_Grouped(), torch.randn(2, 3, 9, 9)), RULES)
    kept, scaled, again = (_member(Spec(1, 2, groups=groups), slimmer) for groups in ("keep", "scale", "keep"))
    for member, groups, channels in ((kept, 4, 4), (scaled, 2, 8), (again, 4, 4)):
        layers = {layer.name: layer for layer in member.layers}
        assert tuple(member.root.grouped.weight.shape) == (32, channels, 3, 3)
        assert tuple(member.root.depthwise.weight.shape) == (32, 1, 3, 3)
        assert layers["grouped"].groups == layers["up"].groups == groups
    assert kept.params == again.params


@pytest.mark.parametrize("gamma", [1, 2])
def test_a_member_is_the_network_of_half_the_groups(gamma: int) -> None:
    x = torch.randn(2, 3, 9, 9)
    settings: dict[str, Any] = {"alpha": 1, "num_estimators": 2, "gamma": gamma, "min_channels_per_group": 1, "groups": "scale"}
    packed = packify.pack(_Grouped().eval(), x, **settings)
    packify.verify(packed)
    if gamma == 1:
        half = _Grouped(16, 2).eval()
        member = packed.extract(0)
        member.load_state_dict(half.state_dict(), strict=True)
        torch.testing.assert_close(member.eval()(x), half(x))
    assert packify.budget(_Grouped(), x, **settings).packed.params == sum(parameter.numel() for parameter in packed.parameters())


def test_groups_that_do_not_come_out_whole_stay() -> None:
    member = _member(Spec(1, 3, groups="scale"))
    assert {layer.name: layer.groups for layer in member.layers}["grouped"] == 4
    assert [note.why for note in member.cardinality] == ["4 x 1/3 is not whole"] * 2


def test_groups_of_a_width_that_is_kept_say_so() -> None:
    """An output is the reason, and not that the channels of one group stay: that they do where groups scale."""

    class Features(_Grouped):
        def forward(self, x: Tensor) -> Tensor:
            return self.grouped(self.norm(self.stem(x)).relu())

    packed = packify.pack(Features(), torch.randn(2, 3, 9, 9), alpha=1, num_estimators=2, groups="scale")
    assert [note.why for note in packed.report.groups] == ["its width is kept"]
    assert {note.why for note in packed.report.pins} == {"the output keeps the reference's shape at output"}


def test_small_groups_are_said() -> None:
    notes = {note.node: note for note in _member(Spec(1, 2)).cardinality}
    assert notes["grouped"].what == "4 groups of 8 -> 4 channels"
    assert notes["grouped"].why == 'groups of fewer than 8 channels are slow; groups="scale" gives 2 groups of 8'
    assert {note.what for note in _member(Spec(1, 2, groups="scale")).cardinality} >= {"4 groups -> 2, of 8 channels each"}
    assert _member(Spec(1, 1)).cardinality == []
