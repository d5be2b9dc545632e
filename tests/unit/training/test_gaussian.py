"""Gaussian heads against torch's own distributions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from packify.core.errors import DataError, SpecError
from packify.training import EnsembleLoss, GaussianNLL, gaussian_mixture, gaussian_moments


def _head(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


@pytest.mark.parametrize("form", ["positive", "softplus", "log"])
@pytest.mark.parametrize("pack", [lambda m, v: (m, v), lambda m, v: torch.cat((m, v), -1), lambda m, v: {"mean": m, "variance": v}])
def test_the_loss_is_the_density(form: Any, pack: Any) -> None:
    mean, raw = _head(7, 3)
    raw = raw.abs() + 0.1 if form == "positive" else raw
    variance = {"positive": raw, "softplus": F.softplus(raw), "log": raw.exp()}[form]
    target = torch.randn(7, 3)
    wanted = -torch.distributions.Normal(mean, variance.sqrt()).log_prob(target)
    torch.testing.assert_close(GaussianNLL(form, full=True, reduction="none")(pack(mean, raw), target), wanted)
    torch.testing.assert_close(GaussianNLL(form)(pack(mean, raw), target), nn.GaussianNLLLoss()(mean, target, variance))


def test_each_member_has_its_own_loss() -> None:
    mean, raw = _head(12, 1)
    target = torch.randn(4)
    criterion = GaussianNLL("softplus")
    outputs = torch.cat((mean, raw), 1)
    wanted = sum(criterion(part, target[:, None]) for part in outputs.chunk(3))
    torch.testing.assert_close(EnsembleLoss(criterion)(outputs, target), wanted)
    torch.testing.assert_close(EnsembleLoss(criterion)((mean, raw), target), wanted)


def test_dense_means_come_before_variances_on_the_channel_axis() -> None:
    mean, variance = gaussian_moments(torch.arange(1.0, 17).view(1, 4, 2, 2))
    assert mean.flatten().tolist() == list(range(1, 9))
    assert variance.flatten().tolist() == list(range(9, 17))


def test_mixture_moments_are_those_of_samples() -> None:
    means, variances = torch.tensor([[1.0], [2.0], [6.0]]), torch.tensor([[0.5], [1.0], [0.1]])
    mixture = gaussian_mixture(means, variances)
    torch.manual_seed(0)
    samples = torch.normal(means.expand(3, 400_000), variances.sqrt().expand(3, 400_000)).flatten()
    assert mixture.mean.item() == pytest.approx(samples.mean().item(), abs=0.02)
    assert mixture.variance.item() == pytest.approx(samples.var().item(), rel=0.01)
    assert mixture.aleatoric.item() == pytest.approx(1.6 / 3)
    assert gaussian_mixture(means[:1], variances[:1]).epistemic.tolist() == [0.0]


def test_what_is_no_gaussian_head() -> None:
    for outputs in (torch.zeros(4, 3), torch.zeros(4), (torch.zeros(4, 1), torch.zeros(4, 2)), {"mean": torch.zeros(4)}, "text"):
        with pytest.raises(DataError, match="mean and a variance"):
            gaussian_moments(outputs)
    with pytest.raises(DataError, match="softplus"):
        gaussian_moments(torch.tensor([[0.0, -1.0]]))
    with pytest.raises(DataError) as caught:
        GaussianNLL()(torch.ones(4, 6), torch.zeros(4))
    assert "(4, 3)" in caught.value.found
    assert "(4,)" in caught.value.found
    for arguments in ({"variance": "std"}, {"reduction": "max"}):
        with pytest.raises(SpecError, match="GaussianNLL"):
            GaussianNLL(**arguments)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="softplus"):
        gaussian_moments(torch.ones(1, 2), "std")  # type: ignore[arg-type]


def test_zero_variance_is_finite() -> None:
    assert GaussianNLL()(torch.zeros(2, 2), torch.zeros(2)).isfinite()
    half = torch.tensor([[0.5, 0.0]], dtype=torch.float16)
    assert GaussianNLL()(half, torch.zeros(1)).item() == pytest.approx(0.5 * (-13.8155 + 0.25 / 1e-6), rel=1e-4)
    assert GaussianNLL("log")(torch.tensor([[0.0, -1e4]]), torch.zeros(1)).isfinite()
