"""Evaluations of labels as values."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch import nn

from packify.evaluation import evaluate


def test_rows_lines_and_json() -> None:
    logits, labels = torch.randn(9, 3), torch.randint(2, (9, 3))
    found = evaluate(nn.Identity(), [(logits, labels)], kind="multilabel", shift=[(logits, labels)], ood=[logits])
    assert found.row()["shift_mean_average_precision"] == found.mean_average_precision
    assert found.row()["ood_max_logit_auroc"] == 0.5
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["labels"][2]["positives"] == int(labels[:, 2].sum())
    assert "15 equal bins" in document["conventions"]
    assert "under shift: accuracy" in str(found)
    none = evaluate(nn.Identity(), [(logits, labels * 0)], kind="multilabel")
    assert "mAP none" in none.line()
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.ece = 0.0
