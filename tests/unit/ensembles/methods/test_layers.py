from __future__ import annotations

import pytest
import torch
from torch import nn

import packify
from packify.core.errors import SpecError
from packify.ensembles.methods.layers import Names, chosen, layers_of
from tests.models import images


def _layers(model: nn.Module, *shape: int) -> list:  # type: ignore[type-arg]
    recording = packify.record(model, torch.randn(2, *shape))
    return [layers_of(graph, recording.graphs.root, recording.table) for graph in recording.graphs.graphs.values()]


def test_a_layer_is_known_by_its_widths_its_axis_and_its_place() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, groups=1), nn.ReLU(), nn.ConvTranspose2d(8, 6, 2, groups=2), nn.Flatten(2), nn.Linear(25, 4))
    (first, up, last), _ = _layers(model, 3, 6, 6)
    assert (first.width_in, first.width_out, first.axis, first.place.first) == (3, 8, -3, True)
    assert (up.width_in, up.width_out, up.groups, up.transposed) == (8, 6, 2, True)
    assert (last.width_in, last.width_out, last.axis, last.place.last) == (25, 4, -1, True)


def test_calls_of_one_layer_have_one_key_in_all_modes() -> None:
    evaluation, training = _layers(images.spectral_normed(), 3, 8, 8)
    assert [layer.key for layer in evaluation] == [layer.key for layer in training]
    assert len({layer.key for layer in evaluation}) == 3


def test_a_weight_from_the_input_is_left_alone() -> None:
    class Dynamic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.make = nn.Linear(4, 16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(x, self.make(x[0]).view(4, 4))

    (make, used), _ = _layers(Dynamic(), 4)
    assert make.fixed == ""
    assert used.fixed == "its weight is computed from the input"


def test_patterns_that_match_nothing_name_what_there_is() -> None:
    layers, _ = _layers(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), 3)
    keys, left = chosen(layers, ["!0"], "they get factors")
    assert len(keys) == len(left) == 1
    with pytest.raises(SpecError, match="there are 0, 1"):
        chosen(layers, ["head"], "they get factors")


def test_names_avoid_what_a_module_has() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[0].r = nn.Parameter(torch.ones(1))
    layers, _ = _layers(model, 3)
    names = Names(model)
    assert [names.of(layer, "r") for layer in layers] == ["0.r_2", "1.r"]
    assert names.of(layers[0], "r") == "0.r_2"
