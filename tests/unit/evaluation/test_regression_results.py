"""Evaluations of numbers as values."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch import nn

from packify.evaluation import evaluate


def test_rows_lines_and_json() -> None:
    outputs, targets = torch.rand(9, 2) + 0.1, torch.randn(9)
    found = evaluate(nn.Identity(), [(outputs, targets)], kind="gaussian", shift=[(outputs, targets)], ood=[outputs])
    assert found.row()["shift_rmse"] == found.rmse
    assert found.row()["ood_variance_auroc"] == 0.5
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["coverage"][0]["level"] == 0.05
    assert "Sharpness" in document["conventions"]
    assert "under shift: RMSE" in str(found)
    assert "9 numbers, 1 member" in str(found)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.rmse = 0.0
