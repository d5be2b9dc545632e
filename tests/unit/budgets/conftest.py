"""What the tests of this room are given."""

import pytest
from torch import nn

from packify import sweep
from tests.unit.budgets.sweeps import X


@pytest.fixture(scope="module")
def model():
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))


@pytest.fixture(scope="module")
def found(model):
    return sweep(model, X, alpha=[1, 2], num_estimators=[2, 4], gamma=[1, 2], gamma_policies=["paper", "uniform"])
