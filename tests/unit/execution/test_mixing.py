from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

import packify
from packify.execution.mixing import parts_in_turn
from packify.execution.part_in_turn import PartInTurn


class Staged(nn.Module):
    """Three stages of two layers, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True)) for _ in range(3)
        )
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = x + stage(x)
        return self.head(x.mean((2, 3)))


def _packed(**spec: Any) -> Any:
    torch.manual_seed(0)
    return packify.pack(Staged(), torch.randn(2, 3, 8, 8), **({"alpha": 2, "num_estimators": 4} | spec))


def _x(batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The parts that are called once per member, as they are."""
    names: list[str] = []
    own = PartInTurn.__call__

    def call(self: PartInTurn, *args: Any, **kwargs: Any) -> Any:
        names.append(self.__name__)
        return own(self, *args, **kwargs)

    monkeypatch.setattr(PartInTurn, "__call__", call)
    return names


@pytest.mark.parametrize(
    ("base", "parts", "expected"),
    [
        ("auto", {"stages.1": "in turn"}, ["stages.1"]),
        ("grouped", {"stages.1.0": "in turn", "head": "in turn"}, ["stages.1.0", "head"]),
        ("in turn", {"stem": "grouped"}, ["stages.0", "stages.1", "stages.2", "head"]),
        ("in turn", {"stages.1": "grouped", "stages.1.0": "in turn"}, ["stem", "stages.0", "stages.1.0", "stages.2", "head"]),
        ("in turn", {"stages.1.1": "grouped"}, ["stem", "stages.0", "stages.1.0", "stages.1.2", "stages.2", "head"]),
        ("auto", {"stem": "grouped"}, []),
    ],
    ids=str,
)
def test_the_nearest_choice_decides(base: str, parts: Mapping[str, str], expected: list[str]) -> None:
    assert parts_in_turn(_packed(), base, parts) == set(expected)


def test_parts_run_as_they_are_told(called: list[str]) -> None:
    packed = _packed().eval()
    expected = packed.members(_x())
    packed.stages[1].strategy = "in turn"
    packed.strategies = {**packed.strategies, "head": "in turn"}
    torch.testing.assert_close(packed.members(_x()), expected)
    assert called == ["stages_1_in_turn", "head_in_turn"]
    called.clear()
    packed.strategy = "grouped"
    packed.members(_x())
    assert not called


@pytest.mark.parametrize("inputs", ["shared", "independent"])
def test_one_result(inputs: str, called: list[str]) -> None:
    packed = _packed(inputs=inputs).double().train()
    x = _x(8).double()
    seen = []
    for parts in ({}, {"stages.0": "in turn", "stages.2.0": "in turn", "head": "in turn"}):
        twin = copy.deepcopy(packed)
        twin.strategy, twin.strategies = "grouped", parts
        output = twin(x)
        (output.sin() * torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view(output.shape)).sum().backward()
        seen.append((output, {name: p.grad for name, p in twin.named_parameters()}, dict(twin.named_buffers())))
    assert set(called) == {"stages_0_in_turn", "stages_2_0_in_turn", "head_in_turn"}
    torch.testing.assert_close(seen[0], seen[1], rtol=1e-9, atol=1e-12)


def test_hooks_fire_below_a_part_in_turn(called: list[str]) -> None:
    packed = _packed().eval()
    packed.stages[0].strategy = "in turn"
    seen: list[torch.Size] = []
    packed.stages[0][0].register_forward_hook(lambda _, args, output: seen.append(output.shape))
    packed(_x())
    assert seen == [torch.Size([3, 16, 8, 8])]
    assert not called


def test_moving_the_network_leaves_no_old_tensors(called: list[str]) -> None:
    packed = _packed().eval()
    packed.stages[0].strategy = "in turn"
    with torch.no_grad():
        packed.members(_x())
        packed.double()
        result = packed.members(_x().double())
        packed.strategy = "grouped"
        torch.testing.assert_close(result, packed.members(_x().double()))
    assert len(called) == 2


@pytest.mark.slow
def test_compiled_exported_and_fused_it_gives_the_same() -> None:
    packed = _packed().eval()
    packed.stages[0].strategy = packed.stages[2].strategy = "in turn"
    with torch.no_grad():
        expected = packed(_x())
        torch.testing.assert_close(torch.compile(packed, fullgraph=True, backend="aot_eager")(_x()), expected)
        torch.testing.assert_close(torch.export.export(packed, (_x(),)).module()(_x()), expected)
        fused = packed.fuse()
        assert fused.strategies == packed.strategies
        torch.testing.assert_close(fused(_x()), expected, rtol=1e-4, atol=1e-5)


def test_an_artefact_keeps_the_choice(tmp_path: Any, called: list[str]) -> None:
    packed = _packed().eval()
    packed.stages[1].strategy = "in turn"
    packify.save(packed, tmp_path / "a")
    loaded: Any = packify.load(tmp_path / "a", Staged())
    assert loaded.strategies == {"stages.1": "in turn"}
    torch.testing.assert_close(loaded(_x()), packed(_x()))
    assert called == ["stages_1_in_turn"] * 2


def test_what_cannot_be_is_one_clear_line() -> None:
    packed = _packed()
    for parts, match in (
        ({"nowhere": "in turn"}, "no part called"),
        ({"stem": "threads"}, "one of these ways"),
        ({"stages": "in turn"}, "never calls it"),
        ({"": "in turn"}, "never calls it"),
        ({3: "in turn"}, "dotted names"),
        ("in turn", "dotted names"),
    ):
        with pytest.raises(packify.SpecError, match=match):
            packed.strategies = parts
    packed.strategy = "batched"
    with pytest.raises(packify.SpecError, match="'batched'"):
        packed.strategies = {"stem": "in turn"}
    assert (packed.strategy, packed.strategies) == ("batched", {})
