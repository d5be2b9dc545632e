from __future__ import annotations

import torch
from torch import nn

from packify.budgets.measuring import network
from packify.budgets.tallies import Tally, tally
from packify.capture.graphs import record_graphs


def _tally(convention: str = "macs", dtype: torch.dtype | None = None, trained: bool = True) -> Tally:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4, bias=False))
    model[3].weight = nn.Parameter(torch.zeros(4, 8))
    recorded = record_graphs(model, torch.zeros(2, 6))
    both = [network(recorded.root, recorded.graphs[mode], recorded.constants, batched=True) for mode in ("eval", "train")]
    return tally(both[0], both[1] if trained else None, convention, dtype)  # type: ignore[arg-type]


def test_one_network_by_hand() -> None:
    found = _tally()
    assert found.params == {"0": 6 * 8 + 8, "1": 16, "3": 32}
    assert found.mult_adds == {"0": 48, "3": 32}
    assert (found.cost.params, found.cost.buffers, found.cost.mult_adds) == (104, 17, 80)
    assert found.cost.weight_bytes == {"float32": 4 * (104 + 16), "int64": 8}
    assert (found.input_bytes, found.scalars, found.scalar_bytes) == (24, 1, {"int64": 8})
    assert found.kinds["0"] == "linear"
    assert found.kinds["1"] == "BatchNorm1d"


def test_packed_is_so_many_but_for_one_input_and_one_of_each_scalar() -> None:
    found = _tally()
    packed = found.packed(3)
    assert packed.params == 3 * 104
    assert packed.buffers == 3 * 16 + 1
    assert packed.weight_bytes == {"float32": 3 * 480, "int64": 8}
    assert packed.inference_bytes == 3 * found.cost.inference_bytes - 2 * 24
    assert packed.training_bytes == 3 * found.cost.training_bytes - 2 * 24
    assert packed.training_bytes_in_turn == found.cost.training_bytes_in_turn == found.cost.training_bytes > 0


def test_an_ensemble_runs_its_networks_in_turn() -> None:
    found = _tally()
    assert found.ensemble(3).params == 3 * 104
    assert found.ensemble(3).weight_bytes == {"float32": 3 * 480, "int64": 3 * 8}
    assert found.ensemble(3).inference_bytes == found.cost.inference_bytes
    assert found.ensemble(3).training_bytes_in_turn == found.ensemble(3).training_bytes == found.cost.training_bytes


def test_without_training_nothing_is_kept_for_it() -> None:
    found = _tally(trained=False)
    assert not found.trained
    assert found.cost.training_bytes == found.packed(4).training_bytes == 0
    assert found.cost.training_bytes_in_turn == found.packed(4).training_bytes_in_turn == 0


def test_bytes_of_another_type() -> None:
    assert _tally(dtype=torch.bfloat16).cost.weight_bytes == {"bfloat16": 240, "int64": 8}
    assert 2 * _tally(dtype=torch.bfloat16).cost.inference_bytes == _tally().cost.inference_bytes


def test_the_convention_counts_biases_and_norms() -> None:
    assert _tally("torchinfo").mult_adds == {"0": 56, "1": 16, "3": 32}
