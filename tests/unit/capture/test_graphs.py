"""A reference becomes a graph per mode that computes what the reference computes."""

from __future__ import annotations

import functools
import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import packify
from packify.capture.graphs import record_graphs
from packify.nn.tree import is_constant
from tests.models import images, interfaces, sequences
from tests.models.catalogue import CASES


class Small(nn.Module):
    """One linear layer and a function of the user's."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.fc, self.function = nn.Linear(5, 4), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.fc(x))


def _reshaped_by_unpacking(h: Tensor) -> Tensor:
    batch, channels = h.shape
    return h.reshape(batch, channels)


def test_nodes_say_where_they_come_from() -> None:
    recorded = record_graphs(images.UNet(), torch.randn(2, 3, 8, 8))
    nodes = {node.name: node for node in recorded.graphs["eval"].nodes}
    conv = next(node for node in nodes.values() if node.meta.get("op") == "conv2d")
    assert conv.meta["path"] == "down1.0"
    assert "images.py:" in conv.meta["source"]
    assert conv.meta["val"].shape[1:] == (4, 8, 8)
    assert conv.meta["val"].is_meta
    assert recorded.root.out.weight.is_meta


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


@pytest.mark.parametrize(
    "function",
    [
        lambda h: h * len(h) / h.shape[0],
        lambda h: torch.stack([row * 2 for row in h]),
        lambda h: torch.cat([h[i : i + 1] for i in range(h.shape[0])]),
        lambda h: h / float(h.shape[0]) if h.shape[0] > 6 else h,
    ],
)
def test_a_baked_batch_size_is_refused_or_right(function: Any) -> None:
    model, x = Small(function), torch.randn(9, 5)
    try:
        packed = packify.pack_members([model], x)
    except packify.TraceError as error:
        if "test_graphs.py" not in str(error):
            raise
        return
    for batch in (3, 9):
        torch.testing.assert_close(packed.members(x[:batch])[0], model(x[:batch]))


@pytest.mark.parametrize(
    "function",
    [
        lambda h: h if h.sum() > 0 else -h,
        lambda h: h * h.max().item(),
        lambda h: h[h > 0],
        lambda h: torch.as_tensor(h.detach().numpy()),
        lambda h: h * float(h.mean()),
        lambda h: h[h.nonzero()[:, 0]],
        lambda h: torch.stack([h[i] for i in h[:, 0].argsort().tolist()]),
    ],
)
def test_code_that_needs_values_is_refused_by_line(function: Any) -> None:
    with pytest.raises(packify.PackifyError, match=r"test_graphs\.py") as caught:
        packify.pack(Small(function), torch.randn(3, 5), alpha=2, num_estimators=2)
    assert caught.value.fix


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


def test_constants_of_the_code_are_shared() -> None:
    recorded = record_graphs(interfaces.Tables(), torch.randn(2, 5, 6))
    assert recorded.constants
    assert all(is_constant(name) for name in recorded.constants)


def test_masks_that_depend_on_shapes_only() -> None:
    packed = packify.pack(sequences.Seq2Seq(), CASES["seq2seq"].inputs(), alpha=2, num_estimators=2)
    source, target = torch.randint(0, 11, (2, 4)), torch.randint(0, 13, (2, 5))
    assert packed.eval()(source, target).shape == (2, 5, 13)


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


@pytest.mark.parametrize("cell", [nn.GRUCell, nn.LSTMCell, nn.RNNCell])
def test_cells_shrink(cell: Any) -> None:
    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.out = cell(5, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            state = self.cell(x)
            return self.out(state[0] if isinstance(state, tuple) else state)

    packed = packify.pack(Step(), torch.randn(3, 5), alpha=1, num_estimators=2)
    assert packed.extract(0).get_parameter("out.weight").shape == (3, 4)


class _AsksForTheDevice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        own = next(self.parameters()).device
        h = self.layer(x) * (2 if x.device.type == "cpu" and own == torch.device("cpu") else 3)
        h = h + 1 if h.is_cpu and not h.is_meta and not h.is_cuda and h.get_device() == -1 else h - 1
        with torch.autocast(h.device.type, enabled=False):
            h = h + torch.arange(8, device=h.device, dtype=h.dtype)[: h.shape[1]].to(own)
        return self.head(h) + h.cpu().to("cpu").mean() + torch.zeros(3, device="cpu") + torch.zeros(h.shape[0], 1, device="cpu")


def test_code_that_asks_for_the_device_is_told_the_networks_own() -> None:
    torch.manual_seed(0)
    model, x = _AsksForTheDevice(), torch.randn(5, 4)
    torch.testing.assert_close(packify.pack_members([model, model], x).members(x)[1], model(x))
    with torch.device("meta"):
        on_meta = _AsksForTheDevice()
    assert packify.pack(on_meta, x.to("meta"), alpha=2, num_estimators=4).report.member_params < 60


def test_the_graph_goes_where_the_network_goes() -> None:
    graph = record_graphs(_AsksForTheDevice(), torch.randn(5, 4)).graphs["eval"]
    factories = [node for node in graph.nodes if node.meta["op"] == "arange"]
    assert [node.kwargs["device"].target for node in factories] == [getattr]


def _distances(h: Tensor) -> Tensor:
    nearest, mask = h * 1.0, h.mean(1) > 0
    nearest[mask] = (h * 3)[mask]
    return nearest


@pytest.mark.parametrize(
    "function",
    [
        lambda h: h / np.sqrt(8),
        lambda h: np.float64(2) * h + h.clamp(min=np.float32(0.1)),
        lambda h: h[:, np.int64(1) : np.int64(3)] + h.view(np.int64(-1), np.int64(4))[:, :2],
        lambda h: h + h.new_tensor(np.arange(4)) + h.new_tensor([1, 2, 3, 4]),
        lambda h: h[:, np.arange(4)[::-1].copy()],
        lambda h: h + torch.as_tensor(np.ones(4, dtype=np.float32)),
        lambda h: h * torch.zeros(4, dtype=float).to(h.dtype),
        lambda h: (
            torch.as_tensor(h) + torch.asarray(h, copy=True, requires_grad=False) + torch.as_tensor(h, dtype=h.dtype, device=h.device)
        ),
        lambda h: h.type("torch.DoubleTensor").type(torch.FloatTensor).type(torch.float64).type(h.type()),
        _distances,
    ],
)
def test_spellings_of_constants_and_casts(function: Any) -> None:
    torch.manual_seed(0)
    model, x = Small(function), torch.randn(6, 5)
    packed = packify.pack_members([model, model], x)
    torch.testing.assert_close(packed.members(x)[1], model(x))
    assert not packed.report.fallbacks


@pytest.mark.parametrize(
    "function",
    [
        lambda h: h / math.sqrt(h.shape[1]) * math.log(h.shape[1]),
        lambda h: h.reshape(h.shape[0], np.prod(h.shape[1:])) / np.sqrt(h.shape[1]),
        lambda h: h * math.exp(-h.size(1)),
        lambda h: h / len(h[0]) + torch.ones(len(h), 1) + len([h]),
    ],
)
def test_functions_of_sizes_are_followed(function: Any) -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return function(self.fc(x).mean(2))

    model = Tokens()
    packed = packify.pack_members([model], torch.randn(2, 5, 3))
    x = torch.randn(4, 9, 3)
    torch.testing.assert_close(packed.members(x)[0], model(x))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda h: h * torch.rand(4, generator=torch.Generator()) + torch.rand(h.shape[1], generator=torch.Generator()), "a Generator"),
        (lambda h: h + len(h[h > 0]), "chosen by a mask"),
        (lambda h: h + h[h > 0].shape[0], "chosen by a mask"),
        (lambda h: h + h[h > 0].sum(), "chosen by a mask"),
    ],
)
def test_arguments_that_no_graph_can_hold_are_refused_by_line(function: Any, message: str) -> None:
    with pytest.raises(packify.TraceError, match=rf"(?s)test_graphs\.py.*{message}"):
        record_graphs(Small(function), torch.randn(3, 5))


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


def test_autocast_inside_forward_is_noted() -> None:
    def function(h: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return (h @ h.t()).float()

    (note,) = record_graphs(Small(function), torch.randn(3, 5)).notes
    assert "autocast to torch.bfloat16" in str(note)
    assert "test_graphs.py" in note.source


def test_libraries_are_told_that_they_are_exported() -> None:
    model = Small(lambda h: h if torch.compiler.is_compiling() and torch.compiler.is_exporting() else h.sum().item())
    record_graphs(model, torch.randn(3, 5))
    assert not torch.compiler.is_exporting()


@pytest.mark.parametrize("name", ["class", "in", "a b", "1x-é", 'x";import os', "it's", "a\\b", "two\nlines", "{x}"])
def test_parts_may_have_any_name(name: str) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(), torch.randn(3, 4, 5, 5)
    for number, part in enumerate((nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))):
        model.add_module(f"{name}{number or ''}", part)
    packed = packify.pack_members([model], x)
    torch.testing.assert_close(packed.eval().members(x)[0], model.eval()(x))
    assert packed.digest
    assert packed.code


def test_tables_that_code_caches_are_constants() -> None:
    class Cached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 3)

        @functools.lru_cache(None)  # noqa: B019
        def places(self, count: int) -> Tensor:
            return torch.arange(count).float() / count

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return self.last(x + self.places(x.shape[1]).to(x))

    torch.manual_seed(0)
    model, x = Cached(), torch.randn(4, 8)
    torch.testing.assert_close(packify.pack_members([model], x).members(x)[0], model(x))


def _guarded(h: Tensor) -> Tensor:
    if not torch.isfinite(h).all():
        h = h.clamp(-1, 1)
    assert not torch.isnan(h).any(), "numbers are missing"
    if torch.isinf(h).any() or h.isnan().any() or torch.rand([]) < 0.0:
        raise ValueError(h)
    return h


def test_checks_that_every_network_in_order_passes_are_taken_to_pass() -> None:
    recorded = record_graphs(Small(_guarded), torch.randn(3, 5))
    assert recorded.batch
    assert {note.node for note in recorded.notes} == {"forward"}
    assert "clamp" not in {node.meta["op"] for node in recorded.graphs["eval"].nodes}


def test_layers_left_out_at_random_are_refused_by_their_reason() -> None:
    with pytest.raises(packify.TraceError, match="drawn at random"):
        record_graphs(Small(lambda h: h if torch.rand([]) < 0.5 else h * 2), torch.randn(3, 5))


def test_chance_of_python_is_noted_and_left_alone() -> None:
    states = random.getstate(), np.random.get_state()[1].copy()
    recorded = record_graphs(Small(lambda h: h * random.random() + np.random.rand()), torch.randn(3, 5))  # noqa: S311
    assert any("decided for good" in note.what for note in recorded.notes)
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])
