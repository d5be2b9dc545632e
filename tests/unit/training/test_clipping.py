"""clip_grad_norm_ per member: equal to torch's on each member alone, to the last bit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from packify.core.errors import DataError, SpecError
from packify.training import clip_grad_norm_

M = 3


def _parameters(*, channels_last: bool = False, scale: tuple[float, ...] = (0.01, 1.0, 100.0)) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(6, 5, 3, 3), (6,), (9, 7), (3, 2, 8)]
    parameters = []
    for shape in shapes:
        parameter = nn.Parameter(torch.zeros(shape))
        grad = torch.cat([part * size for part, size in zip(torch.randn(shape, generator=generator).chunk(M), scale, strict=True)])
        if channels_last and grad.dim() == 4:
            parameter = nn.Parameter(parameter.detach().to(memory_format=torch.channels_last))
            grad = grad.to(memory_format=torch.channels_last)
        parameter.grad = grad
        parameters.append(parameter)
    return [*parameters, nn.Parameter(torch.zeros(5))]  # the last has no gradient, and no M in its axis either


def _alone(parameters: list[nn.Parameter], member: int) -> list[nn.Parameter]:
    own = []
    for parameter in parameters:
        if parameter.grad is not None:
            own.append(nn.Parameter(parameter.detach().chunk(M)[member].clone()))
            own[-1].grad = parameter.grad.chunk(M)[member].clone()
    return own


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("norm_type", [2.0, 1.0, float("inf")])
@pytest.mark.parametrize("max_norm", [0.5, 1e9])
def test_equal_to_torch_on_each_member(norm_type: float, max_norm: float, channels_last: bool) -> None:
    parameters = _parameters(channels_last=channels_last)
    members = [_alone(parameters, member) for member in range(M)]
    norms = clip_grad_norm_(parameters, max_norm, M, norm_type=norm_type)
    for member, own in enumerate(members):
        assert torch.equal(norms[member], nn.utils.clip_grad_norm_(own, max_norm, norm_type))
        clipped = [parameter.grad.chunk(M)[member] for parameter in parameters if parameter.grad is not None]
        assert all(torch.equal(mine, alone.grad) for mine, alone in zip(clipped, own, strict=True))


def test_one_member_is_torchs_clip() -> None:
    mine, theirs = _parameters(), _parameters()
    assert torch.equal(clip_grad_norm_(iter(mine), 1.0, 1)[0], nn.utils.clip_grad_norm_(theirs, 1.0))
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(mine, theirs, strict=True) if a.grad is not None)


class _Packed(nn.Module):
    num_estimators = 2

    def __init__(self, *, sparse: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(4, 3, sparse=sparse)


def test_a_network_knows_its_members_behind_a_wrapper_too() -> None:
    wrapper = nn.Module()
    wrapper.module = _Packed()
    wrapper.module.embedding(torch.arange(4)).sum().backward()
    assert clip_grad_norm_(wrapper, 1.0).shape == (2,)


def test_nothing_to_clip() -> None:
    assert clip_grad_norm_(_Packed(), 1.0).tolist() == [0.0, 0.0]


def test_a_norm_that_is_not_finite_changes_nothing() -> None:
    parameters = _parameters()
    parameters[0].grad[-1] = float("inf")
    before = [parameter.grad.clone() for parameter in parameters[:-1]]
    with pytest.raises(RuntimeError, match="non-finite"):
        clip_grad_norm_(parameters, 0.1, M, error_if_nonfinite=True)
    assert all(torch.equal(parameter.grad, grad) for parameter, grad in zip(parameters, before, strict=False))


def test_what_cannot_be_cut() -> None:
    lone: Tensor = nn.Parameter(torch.zeros(4))
    lone.grad = torch.ones(4)
    with pytest.raises(DataError, match=r"\(4,\)"):
        clip_grad_norm_([lone], 1.0, 3)
    with pytest.raises(SpecError, match="num_estimators"):
        clip_grad_norm_([lone], 1.0)
    with pytest.raises(SpecError, match="num_estimators"):
        clip_grad_norm_(nn.Linear(2, 2), 1.0)
    sparse = _Packed(sparse=True)
    sparse.embedding(torch.arange(2)).sum().backward()
    with pytest.raises(DataError, match="sparse"):
        clip_grad_norm_(sparse, 1.0)
