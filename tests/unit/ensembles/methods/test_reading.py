from __future__ import annotations

import torch
from torch import nn

import packify


def _widths(model: nn.Module, shape: tuple[int, ...], names: list[str]) -> list[int]:
    network = packify.masksembles(model, torch.randn(2, *shape), average="mean")
    alone = network.extract(0)
    return [int(alone.get_parameter(f"{name}.weight").shape[0]) for name in names]


def test_what_a_norm_over_the_channels_reads_stays() -> None:
    apart = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 16), nn.LayerNorm(16), nn.Linear(16, 3))
    cut, whole = _widths(apart, (12,), ["0", "2"])
    assert cut < 32
    assert whole == 16


def test_what_is_joined_is_cut_piece_by_piece() -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.last = nn.Linear(12, 20), nn.Linear(12, 30), nn.Linear(50, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(torch.cat([self.a(x), self.b(x)], 1))

    first, second = _widths(Joined(), (12,), ["a", "b"])
    assert first < 20
    assert second < 30
    network = packify.masksembles(Joined(), torch.randn(2, 12), average="mean")
    assert first + second == int(network.masks["last.mask"][0].sum())


def test_channels_that_an_output_shows_stay() -> None:
    class Shown(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(12, 20), nn.Linear(20, 3)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            x = self.first(x)
            return x, self.last(x)

    assert _widths(Shown(), (12,), ["first"]) == [20]
