"""What a forward writes to is kept per member, and a weight that something else reads gets no subgroups."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import packify


class _Masked(nn.Conv2d):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        self.register_buffer("mask", torch.ones_like(self.weight))
        self.mask[:, :, 1, 2:] = 0

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data *= self.mask
        return super().forward(x)


class _Averaging(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = _Masked(3, 16), _Masked(16, 16), nn.Conv2d(16, 5, 1)
        self.register_buffer("average", torch.tensor(0.0))

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x).relu())
        if self.training:
            self.average.mul_(0.9).add_(0.1 * x.detach().mean())
        return self.last(x - self.average).mean((2, 3))


def test_a_single_number_that_forward_writes_is_one_per_member() -> None:
    torch.manual_seed(0)
    model, x = _Averaging(), torch.randn(2, 3, 6, 6)
    packed = packify.pack_members([model, _Averaging()], x)
    packed.train()(x)
    model.train()(x)
    torch.testing.assert_close(packed.get_buffer("average")[0], model.average)
    assert packed.extract(1).get_buffer("average").shape == ()


def test_a_weight_that_is_written_in_forward_has_no_subgroups() -> None:
    packed = packify.pack(_Averaging(), torch.randn(2, 3, 6, 6), alpha=2, num_estimators=2, gamma=2, min_channels_per_group=1)
    packify.verify(packed)
    assert [layer.gamma for layer in packed.report.layers] == [1, 1, 1]
    assert any(note.node == "second" for note in packed.report.lowered)
