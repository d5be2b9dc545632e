from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import packify
from tests.laws import checks
from tests.models import interfaces
from tests.unit.ensembles.small import small_network


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_reference_of_another_dtype(dtype: torch.dtype) -> None:
    packed = packify.pack(small_network().to(dtype), torch.randn(2, 3, 8, 8, dtype=dtype), alpha=2, num_estimators=2)
    assert {parameter.dtype for parameter in packed.parameters()} == {dtype}
    assert packed(torch.randn(2, 3, 8, 8, dtype=dtype)).dtype == dtype


def test_averages_can_be_chosen() -> None:
    x = torch.randn(3, 5)
    packed = packify.pack(interfaces.Outputs("dict"), x, alpha=2, num_estimators=2, average={"out": "probs", "aux": "mean"}).eval()
    with torch.no_grad():
        members, out = packed.members(x), packed(x)
    checks.close(out["out"].exp(), members["out"].softmax(-1).mean(0), "probs", 1e-5)
    checks.close(out["aux"], members["aux"].mean(0), "mean", 1e-5)
    packed = packify.pack(interfaces.Outputs("dict"), x, alpha=2, num_estimators=2, average="none").eval()
    assert packed(x)["aux"].shape == (2, 3, 4)


def test_independent_inputs_are_a_matter_of_training_only() -> None:
    x, own = torch.randn(6, 3, 8, 8), torch.randn(9, 3, 8, 8)
    packed = packify.pack(small_network(), x, alpha=2, num_estimators=3, inputs="independent").eval()
    with torch.no_grad():
        assert packed.members(x).shape == (3, 6, 4)
        assert packed(x).shape == (6, 4)
        for member in range(3):
            checks.close(packed.members(x)[member], packed.extract(member)(x), f"member {member}", 1e-5)
        packed.train()
        assert copy.deepcopy(packed).members(x).shape == (3, 6, 4)
        singles = [packed.extract(member) for member in range(3)]
        outputs = packed(own)
        for member, single in enumerate(singles):
            checks.close(outputs.chunk(3)[member], single(own.chunk(3)[member]), f"member {member}", 1e-5)


class Cell(nn.Module):
    """A layer that no rule can look into: its weights meet in a way that depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) if float(x.detach().sum()) > -1e9 else x


def test_leaves_are_kept_whole() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(5, 8), Cell(), nn.ReLU(), nn.Linear(8, 3)), torch.randn(3, 5)
    with pytest.raises(packify.TraceError, match="test_assembly"):
        packify.pack(model, x, alpha=2, num_estimators=2)
    packed = packify.pack(model, x, alpha=2, num_estimators=2, leaves=[Cell])
    assert packed.report.fallbacks
    network = checks.randomised(packed)
    checks.check_equality(network, x.double())
    checks.check_poison(network, x.double())
    checks.check_parity(network, x.double())


def test_an_output_that_is_no_tensor() -> None:
    class Shape(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Any:
            return {"shape": x.shape[0], "name": "x", "out": self.fc(x)}

    packed = packify.pack(Shape(), torch.randn(2, 5), alpha=2, num_estimators=2).eval()
    out = packed(torch.randn(4, 5))
    assert out["shape"] == 4
    assert out["name"] == "x"
    assert out["out"].shape == (4, 3)
