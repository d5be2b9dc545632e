"""What `packify.verify` finds of ensembles whose members share weights, and that it notices when something is wrong."""

from __future__ import annotations

import pytest
import torch

import packify
from packify.laws.observation import Batch
from packify.laws.shared_members import measure_shared
from tests.models import images


def test_the_laws_of_a_batch_ensemble_and_what_is_none() -> None:
    network = packify.batch_ensemble(images.LeNet(), torch.randn(2, 1, 24, 24))
    found = packify.verify(network)
    assert found.equality < 1e-8
    assert found.independence == 0
    assert found.activations
    assert found.parity is None
    assert found.does_not_hold == network.does_not_hold
    assert "not a law here" in str(found)


def test_a_factor_of_another_member_is_found() -> None:
    network = packify.batch_ensemble(images.LeNet(), torch.randn(2, 1, 24, 24)).double()
    (fold, *_) = network.folds.values()
    with torch.no_grad():
        dict(network.named_parameters())[fold.inputs or ""].add_(1)
    x = Batch(torch.randn(2, 1, 24, 24, dtype=torch.float64))
    assert measure_shared(network, x, 1e-8, train=True)[0] < 1e-8
    network.folds.clear()  # type: ignore[attr-defined] # a dict
    with pytest.raises(packify.LawBroken):
        measure_shared(network, x, 1e-8, train=False)
