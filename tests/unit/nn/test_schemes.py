"""Drawing from schemes: moments, bounds and dtypes as the scheme says."""

from __future__ import annotations

import math

import pytest
import torch

from packify.nn.schemes import FROZEN, TRUNCATED_STD, Scheme, draw

SIZES = {"fan_in": 25.0}


@pytest.mark.parametrize("distribution", ["normal", "truncated", "uniform"])
@pytest.mark.parametrize("mean", [0.0, 1.5])
def test_moments_are_the_schemes(distribution: str, mean: float) -> None:
    torch.manual_seed(0)
    for scheme, std in ((Scheme(distribution, mean, 0.3), 0.3), (Scheme(distribution, mean, gain=2.0, role="fan_in"), math.sqrt(2 / 25))):
        drawn = draw((200, 300), scheme, SIZES, torch.float64)
        assert scheme.std_at(SIZES) == std
        assert float(drawn.std()) == pytest.approx(std, rel=0.01)
        assert float(drawn.mean()) == pytest.approx(mean, abs=0.01)
        farthest = float((drawn - mean).abs().max()) / std
        bounds = {"uniform": math.sqrt(3), "truncated": 2 / TRUNCATED_STD, "normal": math.inf}
        assert farthest <= bounds[distribution] + 1e-6
        assert farthest > 0.98 * min(bounds[distribution], 3.5)


def test_constants_orthogonal_weights_and_a_spread_of_nothing() -> None:
    assert draw((3,), Scheme("constant", -2.5), {}).tolist() == [-2.5] * 3
    weight = draw((4, 6), Scheme("orthogonal", gain=2.0), {})
    torch.testing.assert_close(weight @ weight.T, 4 * torch.eye(4))
    for distribution in ("normal", "truncated", "uniform"):
        assert draw((3,), Scheme(distribution, 1.0, 0.0), {}).tolist() == [1.0] * 3  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64])
def test_dtypes(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    drawn = draw((100, 100), Scheme("normal", 3.0, 0.5), {}, dtype)
    assert drawn.dtype == dtype
    real = drawn.real if dtype.is_complex else drawn
    assert float(real.double().mean()) == pytest.approx(3, abs=0.05)
    if dtype.is_complex:
        assert float(drawn.imag.mean()) == pytest.approx(0, abs=0.05)
        assert float(drawn.imag.std()) == pytest.approx(0.5, rel=0.05)
    torch.manual_seed(0)
    half = draw((100, 100), Scheme("normal", 3.0, 0.5), {}, torch.float16)
    torch.manual_seed(0)
    assert half.equal(draw((100, 100), Scheme("normal", 3.0, 0.5), {}).half())


@pytest.mark.parametrize(
    ("scheme", "name"),
    [
        (Scheme("uniform", gain=1 / 3, role="fan_in"), "uniform, variance 1/3 / fan_in"),
        (Scheme("normal", gain=25 / 9, role="fan_avg"), "normal, variance 25/9 / fan_avg"),
        (Scheme("normal", gain=1.23456, role="fan_out"), "normal, variance 1.23 / fan_out"),
        (Scheme("truncated", 0.5, 0.02), "truncated, mean 0.5, std 0.02"),
        (Scheme("constant", 1e-6), "constant 1e-06"),
        (Scheme("orthogonal", gain=math.sqrt(2)), "orthogonal, gain 1.41"),
        (FROZEN, "copied: it is frozen"),
    ],
)
def test_names(scheme: Scheme, name: str) -> None:
    assert scheme.name == name
