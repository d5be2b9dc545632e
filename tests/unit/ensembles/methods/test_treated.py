"""Which layers a method treats, and what it says of the others."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import packify
from packify.ensembles.methods.layers import MethodLayer
from packify.ensembles.methods.member import Source
from packify.ensembles.methods.treated import treated_layers


def _source(model: nn.Module, *shape: int) -> Source:
    recording = packify.record(model, torch.randn(2, *shape))
    return Source(recording.model, recording.example_inputs, recording.graphs, recording.rules, recording.table)


def _model() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), nn.Dropout(), nn.Linear(6, 3))


def _against(layer: MethodLayer) -> str:
    return "it is the last" if layer.place.last else ""


def test_patterns_and_the_method_choose() -> None:
    treated = treated_layers(_source(_model(), 4), ["!0"], "factors", _against)
    assert {layer.name for layer in treated.every} == {"0", "2", "4"}
    assert {layer.name for layer in treated.matching} == {"2", "4"}
    assert {layer.name for layer in treated.layers} == {"2"}
    assert {note.node: note.why for note in treated.left_out} == {"0": "the patterns leave it out", "4": "it is the last"}
    assert treated.foldable == {layer.key for layer in treated.layers}


def test_the_layers_of_a_graph_are_those_of_its_mode() -> None:
    source = _source(_model(), 4)
    treated = treated_layers(source, (), "factors", _against)
    for graph in source.graphs.graphs.values():
        assert [layer.name for layer in treated.of(graph)] == ["0", "2"]
        assert {layer.node.graph for layer in treated.of(graph)} == {graph}


def test_no_layer_at_all_is_an_error_that_says_why() -> None:
    treated = treated_layers(_source(nn.Linear(4, 3), 4), (), "masks", _against)
    with pytest.raises(packify.SpecError, match="it is the last") as caught:
        treated.require_some("masks", "members differ by them")
    assert caught.value.found == "1 layers, none of which gets masks"
    assert caught.value.fix
