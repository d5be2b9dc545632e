from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import packify
from packify.capture.graphs import record_graphs
from tests.unit.capture.small import Small


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
    with pytest.raises(packify.PackifyError, match=r"test_recorder\.py") as caught:
        packify.pack(Small(function), torch.randn(3, 5), alpha=2, num_estimators=2)
    assert caught.value.fix


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
