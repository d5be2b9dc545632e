from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import packify
import packify.execution.tuning as tuning
from packify.execution.choices import Choice
from packify.execution.formats import FORMATS, format_of
from packify.execution.strategies import STRATEGIES
from tests.unit.execution.networks import image, packed_convs


def _state(packed: packify.PackedNetwork) -> Any:
    tensors = {name: (tensor.clone(), tensor.stride(), tensor.data_ptr()) for name, tensor in packed.state_dict().items()}
    return tensors, packed.training, packed.strategy, packed.executor.choices, torch.get_rng_state()  # type: ignore[union-attr]


def _assert_same(before: Any, after: Any) -> None:
    assert before[1:4] == after[1:4]
    assert torch.equal(before[4], after[4])
    for name, (tensor, stride, place) in before[0].items():
        assert torch.equal(tensor, after[0][name][0])
        assert (stride, place) == after[0][name][1:]


@pytest.mark.parametrize("mode", ["infer", "train"])
def test_the_fastest_is_chosen_and_used(mode: str) -> None:
    packed = packed_convs().double().train(mode == "train")
    x = image().double()
    expected = copy.deepcopy(packed).members(x)
    found = packed.tune(x, mode=mode, budget_s=0.5)
    assert found.choice.strategy == found.tried[0].strategy
    assert {one.strategy for one in found.tried} >= {"grouped", "in turn", "batched", "per layer"}
    assert {one.memory_format for one in found.tried} == {"contiguous", "channels_last"}
    assert format_of(packed) == found.choice.memory_format
    assert (found.choice.batch_low, found.choice.batch_high) == (2, 8)
    assert packed.strategy == "auto"
    assert packed.executor.suited(packed, [x]) == (found.choice.strategy, found.choice.parts)  # type: ignore[union-attr]
    torch.testing.assert_close(packed.members(x), expected)
    assert "in turn" in str(found)
    assert found.to_dict()["choice"]["mode"] == mode


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_interrupted_it_leaves_the_network_as_it_was(error: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    packed = packed_convs().train()
    before = _state(packed)

    def stopped(*_: Any, **settings: Any) -> Any:
        for function in list(_[0].values())[:3]:
            function()
        raise error

    monkeypatch.setattr(tuning, "measure_by_turns", stopped)
    with pytest.raises(error):
        packed.tune(image(), mode="train", budget_s=1)
    _assert_same(before, _state(packed))


def test_interrupted_among_the_parts_it_leaves_the_network_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = packed_convs().train()
    packed.strategies = {"0": "in turn"}
    before = _state(packed)

    def stopped(network: packify.PackedNetwork, call: Any, **_: Any) -> Any:
        call()
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning, "faster_in_turn", stopped)
    monkeypatch.setattr(tuning, "_ways", lambda *_: [("grouped", "contiguous")])
    with pytest.raises(KeyboardInterrupt):
        packed.tune(image(), budget_s=0.1)
    _assert_same(before, _state(packed))
    assert packed.strategies == {"0": "in turn"}


def test_measuring_changes_neither_statistics_nor_random_numbers() -> None:
    packed = packed_convs().train()
    before = _state(packed)
    packed.tune(image(), mode="train", budget_s=0.3)
    after = _state(packed)
    assert all(torch.equal(tensor, after[0][name][0]) for name, (tensor, *_) in before[0].items())
    assert torch.equal(before[4], after[4])
    assert packed.training
    assert all(parameter.grad is None for parameter in packed.parameters())


def test_wrong_arguments_are_one_clear_line() -> None:
    packed = packed_convs()
    for settings, match in (
        ({"mode": "fast"}, "infer"),
        ({"budget_s": 0}, "seconds"),
        ({"budget_s": float("nan")}, "seconds"),
        ({"budget_s": "30"}, "seconds"),
    ):
        with pytest.raises(packify.SpecError, match=match):
            packed.tune(image(), **settings)
    with pytest.raises(packify.PackError, match="batch"):
        packed.tune(image()[0])
    with pytest.raises(packify.PackError, match="inputs"):
        packed.tune("x")
    with pytest.raises(packify.PackError, match="meta"):
        packed.tune(image().to("meta"))
    with pytest.raises(packify.PackError, match="tune"):
        packed.tune(torch.zeros(2, 4, 8, 8), budget_s=0.1)
    assert packed.executor.choices == ()  # type: ignore[union-attr]


def test_no_data_nothing_to_measure() -> None:
    with pytest.raises(packify.PackError, match="without data"):
        packed_convs().to("meta").tune(image().to("meta"))


def test_several_batches_add_to_each_other() -> None:
    packed = packed_convs().eval()
    for batch in (1, 8):
        packed.tune(image(batch), budget_s=0.2)
    assert [one.batch for one in packed.executor.choices] == [1, 8]  # type: ignore[union-attr]
    assert copy.deepcopy(packed).executor.choices == packed.executor.choices  # type: ignore[union-attr]


def test_ways_that_change_nothing_are_not_tried() -> None:
    cuts = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.Flatten(2), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 5))
    patches = packify.pack(cuts, image(), alpha=2, num_estimators=2).eval()
    assert {(one.strategy, one.memory_format) for one in patches.tune(image(), budget_s=0.1).tried} - {("threads", "contiguous")} == {
        ("grouped", "contiguous"),
        ("in turn", "contiguous"),
    }


def test_what_runs_untuned_stays_where_nothing_is_faster_by_more_than_chance() -> None:
    def way(strategy: str, seconds: float, least: float, note: str = "") -> tuning.Tried:
        return tuning.Tried(strategy, "contiguous", seconds, least, 0.0, 5, note)

    usual, slow = way("grouped", 1.0, 0.9), way("per layer", 0.5, 0.4, "much slower, left out")
    for other, first in (
        (way("in turn", 0.98, 0.8), usual),  # too little
        (way("in turn", 0.9, 0.95), usual),  # in the median only
        (way("in turn", 0.9, 0.85), None),
    ):
        found = tuning._best_first([slow, other, usual], ("grouped", "contiguous"))
        assert found[0] is (first or other)
        assert set(map(id, found)) == {id(slow), id(other), id(usual)}
        assert tuning._best_first([slow, other, usual], ("batched", "contiguous"))[0] is other


def test_parts_are_chosen_where_that_wins_and_used(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = packed_convs().eval()
    own = tuning.measure_by_turns

    def parts_win(functions: Any, **settings: Any) -> Any:
        found = own(functions, **settings)
        if "parts" in found:
            found["parts"].seconds[:] = [found["best"].least / 2] * 4
        return found

    monkeypatch.setattr(tuning, "measure_by_turns", parts_win)
    monkeypatch.setattr(tuning, "faster_in_turn", lambda *_, **__: ["0", "3"])
    monkeypatch.setattr(tuning, "_ways", lambda *_: [("grouped", "contiguous")])
    expected = copy.deepcopy(packed).members(image())
    shares: list[float] = []
    found = packed.tune(image(), budget_s=0.2, progress=lambda share, _: shares.append(share))
    assert found.choice.parts == {"0": "in turn", "3": "in turn"}
    assert "grouped, 2 in turn" in str(found)
    assert 0 <= min(shares) <= max(shares) <= 1
    assert packed.strategies == {}
    assert packed.executor.suited(packed, [image()]) == ("grouped", found.choice.parts)  # type: ignore[union-attr]
    torch.testing.assert_close(packed.members(image()), expected)
    kept = Choice.from_dict(found.choice.to_dict(), list(STRATEGIES), list(FORMATS))
    assert kept == found.choice
