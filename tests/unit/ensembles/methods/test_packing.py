from __future__ import annotations

import torch
from torch import nn

import packify
from tests.models import sequences


def test_members_are_samples_of_one_batch_without_a_copy() -> None:
    network = packify.batch_ensemble(sequences.Vit(), torch.randn(2, 3, 8, 8))
    assert network.report.relayouts == []
    assert network.report.relayout_bytes == 0
    assert network.report.fallbacks == []
    layers = [node.meta["axis"] for node in network.graphs["eval"].nodes if node.meta["op"] in ("linear", "conv2d", "layer_norm")]
    assert set(layers) == {0}


def test_a_shared_recurrent_layer_runs_once_per_member() -> None:
    network = packify.batch_ensemble(sequences.Recurrent("lstm"), torch.randn(2, 4, 5))
    assert [note.what for note in network.report.fallbacks] == ["LSTM runs once per member"] * len(network.report.fallbacks)
    assert network.report.fallbacks


def test_norms_of_members_have_their_channels_side_by_side() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    network = packify.batch_ensemble(model, torch.randn(2, 3, 5, 5), num_estimators=3, norms="member", average="mean")
    assert network.get_submodule("1").num_features == 12
    assert network.get_buffer("1.running_mean").shape == (12,)
