"""EnsembleLoss against each member alone, for criteria whose mean over the flat batch is not the mean of the members' means."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import packify
from packify.core.errors import DataError, SpecError
from packify.training import EnsembleLoss, repeat_targets

M, B, K = 4, 6, 5


def _logits(*shape: int) -> Tensor:
    return torch.randn(M * B, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()


def _labels(*shape: int) -> Tensor:
    labels = torch.randint(K, (B, *shape), generator=torch.Generator().manual_seed(1))
    labels.view(-1)[0] = -100
    return labels


_WEIGHTS = torch.tensor([0.1, 5.0, 1.0, 0.3, 2.0], dtype=torch.float64)
_SOFT = torch.softmax(torch.randn(B, K, dtype=torch.float64), 1)
CASES = {
    "hard": (F.cross_entropy, _logits(K), _labels()),
    "ignored and weighted": (nn.CrossEntropyLoss(weight=_WEIGHTS), _logits(K), _labels()),
    "smoothed": (nn.CrossEntropyLoss(label_smoothing=0.2), _logits(K), _labels()),
    "summed": (nn.CrossEntropyLoss(reduction="sum"), _logits(K), _labels()),
    "one by one": (nn.CrossEntropyLoss(reduction="none"), _logits(K), _labels()),
    "soft": (nn.CrossEntropyLoss(), _logits(K), _SOFT),
    "dense": (nn.CrossEntropyLoss(weight=_WEIGHTS), _logits(K, 3, 2), _labels(3, 2)),
    "regression": (nn.MSELoss(), _logits(3), torch.randn(B, 3, dtype=torch.float64)),
    "numbers": (nn.L1Loss(), _logits(), torch.randn(B, dtype=torch.float64)),
    "not a mean": (lambda output, target: (output.exp().sum() + output[:, 0].std()) * (target >= 0).sum(), _logits(K), _labels()),
}


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("name", CASES)
def test_each_member_gets_what_it_would_get_alone(name: str, reduction: Any) -> None:
    criterion, outputs, targets = CASES[name]
    alone = [criterion(part, targets) for part in outputs.chunk(M)]
    wanted = torch.stack(alone).sum(0) if reduction == "sum" else torch.stack(alone).mean(0)
    loss = EnsembleLoss(criterion, reduction)(outputs, targets)
    assert torch.equal(loss, wanted)
    (grad,) = torch.autograd.grad(loss.sum(), outputs)
    for member, part in enumerate(alone):
        (own,) = torch.autograd.grad(part.sum(), outputs, retain_graph=True)
        torch.testing.assert_close(
            grad.chunk(M)[member],
            own.chunk(M)[member] / (1 if reduction == "sum" else M),
            rtol=1e-14,
            atol=0 if reduction == "sum" else 1e-16,
        )


def test_the_flat_batch_would_be_wrong() -> None:
    criterion, outputs, targets = CASES["ignored and weighted"]
    own = torch.stack([criterion(output, target) for output, target in zip(outputs.chunk(M), targets.repeat(M).chunk(M), strict=True)])
    assert torch.equal(EnsembleLoss(criterion, "mean", M)(outputs, targets.repeat(M)), own.mean(0))
    uneven = targets.repeat(M)
    uneven[:3] = -100  # one member ignores more than the others: then its mean weighs less in the flat mean
    flat = criterion(outputs, uneven)
    assert not torch.isclose(EnsembleLoss(criterion, "mean", M)(outputs, uneven), flat)


def test_mixup_targets_with_a_lambda() -> None:
    outputs, a, b = _logits(K), _labels().clamp(min=0), _labels().flip(0).clamp(min=0)

    def mixup(output: Tensor, target: tuple[Tensor, Tensor, float]) -> Tensor:
        first, second, weight = target
        return weight * F.cross_entropy(output, first) + (1 - weight) * F.cross_entropy(output, second)

    wanted = sum(mixup(part, (a, b, 0.3)) for part in outputs.chunk(M))
    torch.testing.assert_close(EnsembleLoss(mixup)(outputs, (a, b, 0.3)), wanted)
    torch.testing.assert_close(EnsembleLoss(mixup, num_estimators=M)(outputs, repeat_targets((a, b, 0.3), M)), wanted)


def test_auxiliary_heads_and_dicts() -> None:
    main, aux = _logits(K), _logits(K, 2)
    labels = {"label": _labels(), "names": ["a"] * B}

    def criterion(output: dict[str, Any], target: dict[str, Any]) -> dict[str, Tensor]:
        assert output["aux"][0].shape == (B, K, 2)
        assert output["balance"].shape == ()
        assert target["names"] == ["a"] * B
        return {"main": F.cross_entropy(output["main"], target["label"]), "aux": output["aux"][0].square().mean() + output["balance"]}

    balance = torch.arange(float(M))
    loss = EnsembleLoss(criterion)({"main": main, "aux": (aux, None), "balance": balance}, labels)
    torch.testing.assert_close(loss["aux"], sum(part.square().mean() for part in aux.chunk(M)) + balance.sum(), check_dtype=False)
    torch.testing.assert_close(loss["main"], sum(F.cross_entropy(part, labels["label"]) for part in main.chunk(M)))


def test_one_member_and_an_average_are_the_plain_criterion() -> None:
    outputs, labels = torch.randn(B, K), _labels()
    assert torch.equal(EnsembleLoss(F.cross_entropy)(outputs, labels), F.cross_entropy(outputs, labels))
    assert torch.equal(EnsembleLoss(F.cross_entropy, num_estimators=1)(outputs, labels), F.cross_entropy(outputs, labels))


def test_a_batch_of_one() -> None:
    outputs, label = torch.randn(M, K), torch.tensor([2])
    wanted = sum(F.cross_entropy(part[None], label) for part in outputs)
    torch.testing.assert_close(EnsembleLoss(F.cross_entropy)(outputs, label), wanted)


@pytest.mark.parametrize(
    ("outputs", "targets", "members"),
    [((10, K), (4,), None), ((24, K), (6,), 3), ((25, K), (25,), 4), ((3, K), (6,), None), ((0, K), (0,), None), ((6, K), (0,), None)],
)
def test_shapes_that_do_not_fit_are_both_shown(outputs: tuple[int, ...], targets: tuple[int, ...], members: int | None) -> None:
    with pytest.raises(DataError) as caught:
        EnsembleLoss(F.cross_entropy, num_estimators=members)(torch.randn(outputs), torch.zeros(targets, dtype=torch.long))
    assert str(outputs) in caught.value.found
    assert str(targets) in caught.value.found


def test_wrong_arguments() -> None:
    with pytest.raises(SpecError, match="reduction"):
        EnsembleLoss(F.cross_entropy, "none")  # type: ignore[arg-type]
    for members in (0, -1, 2.0, True):
        with pytest.raises(SpecError, match="num_estimators"):
            EnsembleLoss(F.cross_entropy, num_estimators=members)  # type: ignore[arg-type]
        with pytest.raises(SpecError, match="num_estimators"):
            repeat_targets(torch.zeros(3), members)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="without a tensor"):
        EnsembleLoss(F.cross_entropy)("logits", torch.zeros(3))
    with pytest.raises(DataError, match="does not hold 4 members"):
        EnsembleLoss(lambda output, target: output[0].sum())((torch.zeros(24, K), torch.zeros(7, K)), torch.zeros(6))


def test_repeat_targets_is_member_major() -> None:
    labels, boxes = torch.arange(3), torch.arange(6.0).view(3, 2)
    repeated = repeat_targets({"y": labels, "more": (boxes, torch.tensor(0.5), 2, None)}, 2)
    assert repeated["y"].tolist() == [0, 1, 2, 0, 1, 2]
    assert torch.equal(repeated["more"][0], torch.cat((boxes, boxes)))
    assert repeated["more"][1].shape == ()
    assert repeated["more"][2:] == (2, None)


@pytest.fixture(scope="module")
def trained() -> tuple[Any, Tensor, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, K)
    )
    x = torch.randn(B, 3, 6, 6, dtype=torch.float64)
    return packify.pack(model.double(), x, alpha=4, num_estimators=M).train(), x, _labels()


def test_one_backward_pass_gives_each_member_its_own_gradients(trained: tuple[Any, Tensor, Tensor]) -> None:
    packed, x, labels = trained
    criterion = nn.CrossEntropyLoss(weight=_WEIGHTS, label_smoothing=0.1)
    members = [packed.extract(member).train() for member in range(M)]
    packed.zero_grad()
    EnsembleLoss(criterion)(packed(x), labels).backward()
    for member, alone in enumerate(members):
        criterion(alone(x), labels).backward()
        for name, parameter in alone.named_parameters():
            packed_grad = packed.get_parameter(name).grad.chunk(M)[member]
            torch.testing.assert_close(packed_grad.reshape(parameter.shape), parameter.grad, rtol=1e-9, atol=1e-12)


def test_clipping_is_each_members_own(trained: tuple[Any, Tensor, Tensor]) -> None:
    packed, x, labels = trained
    packed.zero_grad()
    EnsembleLoss(nn.CrossEntropyLoss())(packed(x), labels).backward()
    wanted = []
    for member in range(M):
        alone = packed.extract(member)
        for name, parameter in alone.named_parameters():
            parameter.grad = packed.get_parameter(name).grad.chunk(M)[member].clone().view(parameter.shape)
        norm = nn.utils.clip_grad_norm_(alone.parameters(), 0.2)
        wanted.append((norm, {name: parameter.grad for name, parameter in alone.named_parameters()}))
    norms = packify.training.clip_grad_norm_(packed, 0.2)
    assert norms.shape == (M,)
    for member, (norm, grads) in enumerate(wanted):
        assert torch.equal(norms[member], norm)
        for name, grad in grads.items():
            assert torch.equal(packed.get_parameter(name).grad.chunk(M)[member].reshape(grad.shape), grad)
