"""A reference becomes a graph per mode that computes what the reference computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import packify
from packify.capture.graphs import record_graphs
from tests.models import images
from tests.models.catalogue import CASES
from tests.unit.capture.small import Small


def _reshaped_by_unpacking(h: Tensor) -> Tensor:
    batch, channels = h.shape
    return h.reshape(batch, channels)


@pytest.mark.parametrize("name", ["lenet", "flat", "activations", "window", "mixer"])
def test_one_graph_where_the_modes_agree(name: str) -> None:
    recorded = record_graphs(CASES[name].build(), CASES[name].inputs())
    assert recorded.graphs["eval"] is recorded.graphs["train"]


@pytest.mark.parametrize("name", ["auxiliary", "random drop path"])
def test_two_graphs_where_they_do_not(name: str) -> None:
    recorded = record_graphs(CASES[name].build(), CASES[name].inputs())
    assert recorded.graphs["eval"] is not recorded.graphs["train"]


def test_dropout_stays_switchable() -> None:
    ops = [node.meta.get("op") for node in record_graphs(images.mlp(), torch.randn(2, 9)).graphs["eval"].nodes]
    assert "Dropout" in ops
    assert "BatchNorm1d" in ops


def test_the_model_is_not_run() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.calls = nn.Linear(5, 4), 0
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            self.seen += 1
            self.cache = x
            return self.fc(x) + self.seen

    model = Counting()
    record_graphs(model, torch.randn(2, 5))
    assert model.calls == 0
    assert float(model.seen) == 0
    assert not hasattr(model, "cache")


def _reshaped_by_unpacking(h: Tensor) -> Tensor:
    batch, channels = h.shape
    return h.reshape(batch, channels)


@pytest.mark.parametrize(
    "function",
    [
        lambda h: h if h.shape[1] % 4 == 0 else h.missing(),
        lambda h: torch.stack([h * step for step in range(h.shape[1])]).sum(0),
        lambda h: h.reshape(int(h.shape[0]), -1),
        lambda h: h.view(h.shape[0] * 2, h.shape[1] // 2).view_as(h),
        lambda h: h[: max(1, h.shape[0] // 2)],
        lambda h: h * (h.shape[-1] ** -0.5),
        lambda h: h + torch.arange(h.shape[1], device=h.device, dtype=h.dtype),
        lambda h: h if h.is_floating_point() and h.dim() == 2 and h.ndim == 2 else None,
        lambda h: h if h.dtype in (torch.float32, torch.float64) and h.device is not None else None,
        lambda h: torch.zeros(2, 3).sum() + h,
        lambda h: h.size()[0] * h,
        _reshaped_by_unpacking,
        lambda h: h.reshape((*h.shape[:-1], 2, 2)).flatten(1),
    ],
)
def test_control_flow_on_shapes_is_decided_by_the_example(function: Any) -> None:
    model, x = Small(function), torch.randn(6, 5)
    try:
        packed = packify.pack(model, torch.randn(2, 5), alpha=2, num_estimators=2)
    except packify.TraceError as error:
        if "batch" not in str(error):
            raise
        return
    packed.eval()
    with torch.no_grad():
        for member in range(2):
            torch.testing.assert_close(packed.members(x)[member], packed.extract(member)(x))


def test_buffers_that_change_are_per_member() -> None:
    class Moving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.out = nn.Linear(5, 4), nn.Linear(4, 2)
            self.register_buffer("mean", torch.zeros(4))

        def forward(self, x: Tensor) -> Tensor:
            x = self.fc(x)
            if self.training:
                with torch.no_grad():
                    self.mean.mul_(0.9).add_(0.1 * x.mean(0))
            return self.out(x - self.mean)

    torch.manual_seed(0)
    model, x = Moving(), torch.randn(3, 5)
    packed = packify.pack_members([model, Moving()], x)
    packed.train()(x)
    model.train()(x)
    torch.testing.assert_close(packed.get_buffer("mean").chunk(2)[0], model.mean)
    assert not torch.equal(*packed.get_buffer("mean").chunk(2))


@torch.jit.script
def _scripted(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


@pytest.mark.parametrize("function", [_scripted, torch.vmap(torch.sin)])
def test_code_that_a_recording_cannot_see_into_is_right_or_refused(function: Any) -> None:
    model, x = Small(function), torch.randn(3, 5)
    try:
        packed = packify.pack_members([model], x)
    except packify.PackifyError as error:
        assert error.fix  # noqa: PT017
        return
    torch.testing.assert_close(packed.members(x)[0], model(x))


@pytest.mark.parametrize("function", [lambda h: torch.distributions.Categorical(logits=h), lambda h: {h}, lambda h: (row for row in h)])
def test_objects_alone_are_no_output(function: Any) -> None:
    with pytest.raises(packify.TraceError, match="forward\n  found: it returns a"):
        record_graphs(Small(function), torch.randn(3, 5))


def test_an_object_among_tensors_is_left_out_and_noted() -> None:
    model = Small(lambda h: {"logits": h, "cache": object(), "number": 3})
    packed = packify.pack(model, torch.randn(3, 5), alpha=2, num_estimators=2)
    outputs = packed.eval()(torch.randn(3, 5))
    assert outputs["cache"] is None
    assert outputs["number"] == 3
    assert "output cache: None is returned" in str(packed.report)
