from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import packify
from packify.capture.graphs import record_graphs
from tests.models import images
from tests.unit.capture.small import Small


def test_nodes_say_where_they_come_from() -> None:
    recorded = record_graphs(images.UNet(), torch.randn(2, 3, 8, 8))
    nodes = {node.name: node for node in recorded.graphs["eval"].nodes}
    conv = next(node for node in nodes.values() if node.meta.get("op") == "conv2d")
    assert conv.meta["path"] == "down1.0"
    assert "images.py:" in conv.meta["source"]
    assert conv.meta["val"].shape[1:] == (4, 8, 8)
    assert conv.meta["val"].is_meta
    assert recorded.root.out.weight.is_meta


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
    with pytest.raises(packify.TraceError, match=rf"(?s)test_writer\.py.*{message}"):
        record_graphs(Small(function), torch.randn(3, 5))


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
