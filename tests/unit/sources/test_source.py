from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

from packify.core.errors import SourceError
from packify.sources import Reference, Source


def test_round_trip_through_json() -> None:
    source = Source("timm", "vit_tiny_patch16_224", {"img_size": (64, 64), "num_classes": 10, "drop_rate": 0.1, "act_layer": "gelu"})
    assert Source.from_dict(json.loads(json.dumps(source.to_dict()))) == source


def test_objects_of_a_user_are_kept_as_texts() -> None:
    assert Source("module", "a:b", {"norm": int, "sizes": {1: 2}}).to_dict()["args"] == {"norm": "<class 'int'>", "sizes": {"1": 2}}


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        {"kind": "timm", "name": "resnet18"},
        {"kind": "timm", "name": "resnet18", "args": {}, "more": 1},
        {"kind": "pickle", "name": "resnet18", "args": {}},
        {"kind": ["timm"], "name": "resnet18", "args": {}},
        {"kind": "timm", "name": 3, "args": {}},
        {"kind": "timm", "name": "hf-hub:evil/net", "args": {}},
        {"kind": "timm", "name": "../../etc/passwd", "args": {}},
        {"kind": "timm", "name": "x" * 2000, "args": {}},
        {"kind": "file", "name": "a.py:b\x1b[2J", "args": {}},
        {"kind": "timm", "name": "resnet18", "args": []},
        {"kind": "timm", "name": "resnet18", "args": {"pretrained": True}},
        {"kind": "timm", "name": "resnet18", "args": {"checkpoint_path": "evil.pth"}},
        {"kind": "torchvision", "name": "resnet18", "args": {"weights": "DEFAULT"}},
        {"kind": "torchvision", "name": "fcn_resnet50", "args": {"weights_backbone": "DEFAULT"}},
        {"kind": "timm", "name": "resnet18", "args": {"depth": 10**30}},
        {"kind": "timm", "name": "resnet18", "args": {"not a key": 1}},
        {"kind": "timm", "name": "resnet18", "args": {"a": [[[[[[[[[[1]]]]]]]]]]}},
    ],
)
def test_hostile_sources_are_refused(values: Any) -> None:
    with pytest.raises(SourceError):
        Source.from_dict(values)


def test_the_normalisation_of_published_weights_is_kept() -> None:
    source = Source("timm", "resnet18", {}, (0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
    assert Source.from_dict(source.to_dict()) == source
    assert set(Source("timm", "resnet18").to_dict()) == {"kind", "name", "args"}
    for mean, std in (("0.5", [1]), ([], [1]), ([0.5], [0]), ([0.5], [-1.0]), ([float("nan")], [1]), ([True], [1]), ([0.5] * 2000, [1])):
        with pytest.raises(SourceError):
            Source.from_dict({"kind": "timm", "name": "resnet18", "args": {}, "mean": mean, "std": std})


def test_example_has_the_networks_dtype() -> None:
    reference = Reference(nn.Linear(3, 2).double(), Source("module", "a:b"), (3,))
    assert reference.example(batch=4).shape == (4, 3)
    assert reference.example().dtype == torch.float64
    assert reference.example(device="meta").is_meta


def test_example_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    Reference(nn.Identity(), Source("module", "a:b"), (3,)).example()
    assert torch.equal(before, torch.get_rng_state())


def test_example_without_a_size_asks_for_one() -> None:
    with pytest.raises(SourceError, match="--input-size 3x224x224"):
        Reference(nn.Identity(), Source("module", "a:b")).example()
