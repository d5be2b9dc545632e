from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

import packify
from packify.ensembles.bench_plots import draw_bench, plot_bench
from packify.ensembles.benchmarking import Bench, bench, contenders
from tests.unit.execution.networks import convs, image


@pytest.fixture(scope="module")
def measured() -> Bench:
    torch.manual_seed(0)
    reference = convs()
    recording = packify.record(reference, image())
    numbers = {"alpha": 2, "num_estimators": 4}
    return bench(
        reference, recording.pack(**numbers), image, recording.budget(**numbers), batches=[2], modes=("infer", "train"), budget_s=0.5
    )  # type: ignore[arg-type]


@pytest.mark.slow
def test_everything_is_measured_in_both_formats(measured: Bench) -> None:
    for mode in ("infer", "train"):
        found = {(line.contender, line.memory_format) for line in measured.lines if line.mode == mode}
        both = {
            (name, form) for name in ("single", "grouped", "in turn", "vmap", "Deep Ensemble") for form in ("contiguous", "channels_last")
        }
        assert found == both | {("packed as converted", "its own"), ("packed tuned", "its own")}
    assert all(line.seconds is not None for line in measured.lines), [line.note for line in measured.lines if line.note]


@pytest.mark.slow
def test_ratios_and_rooflines(measured: Bench) -> None:
    assert min(line.to_single for line in measured.lines if line.contender == "single") == 1
    for line in measured.lines:
        assert line.seconds is not None
        assert line.per_second == pytest.approx(line.batch / line.seconds)
        assert line.roofline > 0
        assert line.bound in ("compute", "memory")
        assert line.peak_bytes is not None
        assert line.peak_bytes > 0
    ensemble = next(line for line in measured.lines if line.contender == "Deep Ensemble")
    assert ensemble.to_mult_adds == pytest.approx(ensemble.to_single / 4)


@pytest.mark.slow
def test_training_in_turn_is_measured_to_hold_less_than_inference_grouped(measured: Bench) -> None:
    peaks = {(line.contender, line.memory_format): line.peak_bytes for line in measured.lines if line.mode == "infer"}
    assert peaks["in turn", "contiguous"] < peaks["grouped", "contiguous"]  # type: ignore[operator]


def test_it_is_json(measured: Bench) -> None:
    assert json.loads(json.dumps(measured.to_dict()))["lines"][0]["contender"]


def test_what_cannot_run_says_why_and_the_rest_is_measured() -> None:
    reference = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    recording = packify.record(reference, image())
    numbers = {"alpha": 2, "num_estimators": 2}
    packed, budget = recording.pack(**numbers), recording.budget(**numbers)  # type: ignore[arg-type]
    found = bench(reference, packed, image, budget, batches=[1], modes=("infer", "train"), budget_s=0.1)
    assert all(line.seconds for line in found.lines if line.mode == "infer")
    for line in found.lines:
        if line.mode == "train":
            assert line.seconds is None
            assert "more than 1 value per channel" in line.note
    assert len(draw_bench(found).axes) == 1


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(packify.SpecError, match="batch"):
        bench(convs(), packify.pack(convs(), image(), alpha=2, num_estimators=2), image, None, batches=[0])  # type: ignore[arg-type]


def test_the_picture(measured: Bench, tmp_path_factory: pytest.TempPathFactory) -> None:
    pytest.importorskip("matplotlib")
    figure = draw_bench(measured, "convs")
    assert len(figure.axes) == 2
    assert all(len(axes.patches) == 12 for axes in figure.axes)
    assert plot_bench(measured, tmp_path_factory.mktemp("plot") / "bench.png").stat().st_size > 1000


def test_every_way_is_also_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []

    def compile_nothing(function: Any, **_: Any) -> Any:
        compiled.append(function)
        return function

    monkeypatch.setattr(torch, "compile", compile_nothing)
    packed = packify.pack(convs(), image(), alpha=2, num_estimators=2).eval()
    ways = "single", "vmap", "grouped", "in turn", "packed"
    functions = contenders(convs().eval(), packed, image(), train=False, compiled=ways, tuning_s=0.05)
    names = {key.split(", ")[0] for key in functions if "compiled" in key}
    assert names == {f"{name} compiled" for name in ways}
    assert len(compiled) >= 2 * 4 + 1
    for key, function in functions.items():
        if "compiled" in key:
            function()
