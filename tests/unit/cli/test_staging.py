from __future__ import annotations

from packify.cli.staging import stages
from packify.core.report import LayerWidth


def _layer(name: str, reference: int = 64, member: int = 32, gamma: int = 1) -> LayerWidth:
    return LayerWidth(name, "conv2d", reference, reference, member, member, 1, gamma, gamma)


def test_a_residual_network_by_its_stages() -> None:
    layers = [
        _layer("conv1"),
        *(_layer(f"layer{stage}.{block}.conv", gamma=stage) for stage in (1, 2, 3) for block in (0, 1)),
        _layer("fc", 10, 10),
    ]
    found = stages(layers)
    assert [stage.name for stage in found] == ["conv1", "layer1", "layer2", "layer3", "fc"]
    assert [stage.layers for stage in found] == [1, 2, 2, 2, 1]
    assert found[3].gammas == ((3, 2),)
    assert [stage.ratio for stage in found] == [0.5, 0.5, 0.5, 0.5, 1.0]


def test_a_flat_trunk_is_opened() -> None:
    names = [stage.name for stage in stages([*(_layer(f"features.{block}.conv") for block in range(5)), _layer("classifier.1")])]
    assert names == ["features.0", "features.1", "features.2", "features.3", "features.4", "classifier.1"]


def test_many_alike_are_one_line() -> None:
    found = stages([_layer("stem", gamma=1), *(_layer(f"blocks.{block}.conv", gamma=2) for block in range(24)), _layer("head", 10, 10)])
    assert [(stage.name, stage.layers) for stage in found] == [("stem", 1), ("blocks.0 ... blocks.23", 24), ("head", 1)]
    assert found[1].gammas == ((2, 24),)


def test_nothing_and_one() -> None:
    assert stages([]) == []
    assert [stage.name for stage in stages([_layer("fc")])] == ["fc"]
