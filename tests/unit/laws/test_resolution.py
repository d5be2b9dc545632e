from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import packify
from packify.laws import verification
from packify.laws.resolution import smaller_example


def _down(times: int) -> list[nn.Module]:
    return [nn.Conv2d(3, 4, 3, padding=1), *(nn.MaxPool2d(2) for _ in range(times)), nn.Conv2d(4, 4, 1)]


def _pack(model: nn.Module, x: Any) -> packify.PackedNetwork:
    return packify.pack(model, x, alpha=2, num_estimators=2, average="mean")


@pytest.mark.parametrize(
    ("times", "size", "smaller"),
    [
        (5, (224, 224), (64, 64)),  # the last maps are 7x7, and then 2x2
        (4, (224, 160), (32, 32)),
        (0, (500, 66), (32, 32)),
        (1, (128, 64), (32, 64)),  # what is short stays
        (6, (96, 96), None),  # they are 1x1 already, and the smallest others 3x3
    ],
)
def test_the_last_maps_are_two_by_two(times: int, size: tuple[int, int], smaller: tuple[int, int] | None) -> None:
    packed = _pack(nn.Sequential(*_down(times), nn.AdaptiveAvgPool2d(1)), torch.empty(2, 3, *size))
    found = smaller_example(packed)
    if smaller is None:
        assert tuple(found.shape[2:]) == (64, 64)
    else:
        assert tuple(found.shape) == (2, 3, *smaller)
        assert found.is_meta


@pytest.mark.parametrize("shape", [(2, 3, 64, 64), (2, 300), (2, 3, 8)])
def test_short_inputs_stay(shape: tuple[int, ...]) -> None:
    model = nn.Sequential(*_down(1)) if len(shape) == 4 else nn.Sequential(nn.Linear(shape[-1], 4), nn.Linear(4, 2))
    assert smaller_example(_pack(model, torch.empty(shape))) is None


class _Positions(nn.Module):
    """Takes one resolution only."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.conv, self.table, self.head = nn.Conv2d(3, 8, 16, 16), nn.Parameter(torch.randn(1, 8, size, size)), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv(x) + self.table))


def test_verify_says_which_inputs_it_took() -> None:
    assert packify.verify(_pack(nn.Sequential(*_down(5)), torch.empty(2, 3, 96, 96))).inputs == "2x3x64x64"
    assert packify.verify(_pack(_Positions(6), torch.empty(2, 3, 96, 96))).inputs == "2x3x96x96"
    assert packify.verify(_pack(nn.Linear(3, 4), torch.empty(5, 3)), torch.randn(7, 3)).inputs == "7x3"


def test_a_law_that_only_a_lower_resolution_breaks_is_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    measured, seen = verification._measured, []

    def refusing(packed: Any, x: Any, example: Any, *settings: Any) -> Any:
        seen.append(tuple(example.shape))
        if example.shape[-1] < 96:
            raise packify.LawBroken("somewhere", found="", why="", fix="")
        return measured(packed, x, example, *settings)

    monkeypatch.setattr(verification, "_measured", refusing)
    assert packify.verify(_pack(nn.Sequential(*_down(3)), torch.empty(2, 3, 96, 96))).inputs == "2x3x96x96"
    assert seen == [(2, 3, 32, 32), (2, 3, 96, 96)]
