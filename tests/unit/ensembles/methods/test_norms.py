from __future__ import annotations

import torch

import packify
from packify.ensembles.methods.norms import norm_tensors
from tests.models import images


def test_norms_of_activations_are_found_and_those_of_weights_are_not() -> None:
    recording = packify.record(images.Norms(), torch.randn(2, 3, 6, 6))
    found = norm_tensors(recording.graphs, recording.table)
    assert any(name.endswith("running_mean") for name in found)
    assert all("conv" not in name for name in found)
    standardised = packify.record(images.standardised(), torch.randn(2, 3, 6, 6))
    layers = {name for name, module in standardised.model.named_modules() if isinstance(module, images.StandardisedConv2d)}
    assert not {name.rpartition(".")[0] for name in norm_tensors(standardised.graphs, standardised.table)} & layers
