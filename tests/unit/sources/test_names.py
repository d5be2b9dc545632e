from __future__ import annotations

import pytest

from packify.core.errors import SourceError
from packify.sources import parse_name
from packify.sources.names import label


@pytest.mark.parametrize(
    ("name", "kind", "plain"),
    [
        ("resnet50", None, "resnet50"),
        ("resnet50.a1_in1k", None, "resnet50.a1_in1k"),
        ("timm:vit_tiny_patch16_224", "timm", "vit_tiny_patch16_224"),
        ("torchvision:resnet50", "torchvision", "resnet50"),
        ("nets/own.py:build", "file", "nets/own.py:build"),
        ("/abs/own.py:Nets.build", "file", "/abs/own.py:Nets.build"),
        ("own.nets:build", "module", "own.nets:build"),
    ],
)
def test_spelling_decides_the_kind(name: str, kind: str | None, plain: str) -> None:
    assert parse_name(name) == (kind, plain)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "hf-hub:timm/resnet18",
        "hf_hub:resnet18",
        "HF-HUB:resnet18",
        "local-dir:weights",
        "http://example.org/net.py:build",
        "https://example.org/resnet18",
        "timm:hf-hub:timm/resnet18",
        "timm:../resnet18",
        "timm:",
        "./resnet18",
        "timm/resnet18",
        "nets/own.py",
        "own.py:",
        "own.py:build()",
        "../own:build",
        "resnet 50",
        "a\\b",
    ],
)
def test_paths_and_addresses_are_refused(name: str) -> None:
    with pytest.raises(SourceError) as error:
        parse_name(name)
    assert error.value.why
    assert error.value.fix


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet50.a1_in1k", "resnet50.a1_in1k"),
        ("a/b.py:build", "build"),
        ("a.b:Nets.build", "Nets.build"),
        ("torchvision:resnet50", "resnet50"),
    ],
)
def test_label_is_safe_in_a_file_name(name: str, expected: str) -> None:
    assert label(*parse_name(name)) == expected
