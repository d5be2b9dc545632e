"""The measures against formulas written out in float64, and on hostile logits."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import packify
from packify.core.errors import DataError, SpecError
from packify.evaluation import RegressionUncertainty, Uncertainty, uncertainty

SCALARS = ("confidence", "entropy", "mutual_information", "max_logit", "variation_ratio", "disagreement")


def _logits(*shape: int, scale: float = 3.0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * scale


def _by_hand(logits: np.ndarray) -> dict[str, float]:
    """All measures of one sample's logits "m k"."""
    members = len(logits)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    mean = p.mean(0)

    def entropy(q: np.ndarray) -> float:
        return float(-sum(x * math.log(x) for x in q if x > 0))

    votes = [int(row.argmax()) for row in logits]
    pairs = [(i, j) for i in range(members) for j in range(members) if i != j]
    return {
        "prediction": int(mean.argmax()),
        "confidence": float(mean.max()),
        "entropy": entropy(mean),
        "mutual_information": entropy(mean) - float(np.mean([entropy(row) for row in p])),
        "max_logit": float(logits.mean(0).max()),
        "variation_ratio": 1 - max(votes.count(vote) for vote in votes) / members,
        "disagreement": float(np.mean([votes[i] != votes[j] for i, j in pairs])) if pairs else 0.0,
    }


@pytest.mark.parametrize("members", [1, 2, 5])
@pytest.mark.parametrize("shape", [(7, 4), (3, 4, 2, 5)])
def test_measures_are_their_formulas(members: int, shape: tuple[int, ...]) -> None:
    logits = _logits(members, *shape)
    found = uncertainty(logits)
    assert found.probabilities.shape == shape
    torch.testing.assert_close(found.probabilities.sum(1), torch.ones(shape[:1] + shape[2:]))
    flat = logits.movedim(2, -1).flatten(1, -2).double().numpy()
    for position in range(flat.shape[1]):
        for name, wanted in _by_hand(flat[:, position]).items():
            assert float(getattr(found, name).flatten()[position]) == pytest.approx(wanted, abs=2e-6), name


def test_a_sequence_has_its_classes_last() -> None:
    logits = _logits(3, 2, 6, 4)
    assert uncertainty(logits).entropy.shape == (2, 6)
    assert uncertainty(logits, class_axis=1).entropy.shape == (2, 4)
    assert uncertainty(logits, class_axis=1).probabilities.shape == (2, 6, 4)
    torch.testing.assert_close(uncertainty(logits, class_axis=-1).entropy, uncertainty(logits).entropy)


EXTREME = {
    "large": torch.tensor([[[1e4, -1e4, 0.0]], [[-1e4, 1e4, 0.0]]]),
    "masked": torch.tensor([[[0.0, float("-inf"), 1.0]], [[2.0, float("-inf"), float("-inf")]]]),
    "largest": torch.tensor([[[1e38, -1e38, 0.0]], [[1e38, -1e38, 0.0]]]),
    "half": torch.tensor([[[6e4, -6e4, 1.0]], [[1.0, 6e4, 2.0]]], dtype=torch.float16),
    "bfloat": torch.tensor([[[1e4, -1e4, 1.0]], [[1.0, 1e4, 2.0]]], dtype=torch.bfloat16),
    "equal": torch.zeros(4, 1, 3),
    "one member": torch.tensor([[[1e4, -1e4, float("-inf")]]]),
}


@pytest.mark.parametrize("name", EXTREME)
def test_extreme_logits_give_numbers(name: str) -> None:
    found = uncertainty(EXTREME[name])
    for measure in (*SCALARS, "probabilities"):
        value = getattr(found, measure)
        assert value.dtype == torch.float32
        assert value.isfinite().all(), measure
    assert (found.mutual_information >= 0).all()
    assert (found.mutual_information <= math.log(len(EXTREME[name])) + 1e-6).all()


def test_certain_members_that_contradict_each_other() -> None:
    found = uncertainty(EXTREME["large"])
    assert found.mutual_information.item() == pytest.approx(math.log(2))
    assert found.entropy.item() == pytest.approx(math.log(2))
    assert (found.variation_ratio.item(), found.disagreement.item()) == (0.5, 1.0)


def test_one_member_and_equal_members_have_no_mutual_information() -> None:
    one = uncertainty(_logits(1, 50, 10))
    for name in ("mutual_information", "variation_ratio", "disagreement"):
        assert not getattr(one, name).any(), name
    equal = uncertainty(_logits(1, 50, 10).expand(4, -1, -1))
    assert equal.mutual_information.max() < 1e-6
    assert not equal.disagreement.any()


def test_small_mutual_information_is_not_lost_in_large_entropies() -> None:
    base = _logits(1, 20, 1000, scale=0.1).double()
    near = torch.cat((base, base + 1e-3 * _logits(1, 20, 1000).double()))
    exact = uncertainty(near).mutual_information
    torch.testing.assert_close(uncertainty(near.float()).mutual_information.double(), exact, rtol=0.05, atol=1e-9)


def test_double_stays_double_and_gradients_flow() -> None:
    logits = _logits(3, 4, 5).double().requires_grad_()
    found = uncertainty(logits)
    assert found.entropy.dtype == torch.float64
    (grad,) = torch.autograd.grad(found.mutual_information.sum(), logits)
    assert grad.isfinite().all()
    assert grad.any()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_gives_no_probabilities_is_an_error(value: float) -> None:
    logits = _logits(2, 3, 4)
    logits[1, 2, 0] = value
    with pytest.raises(DataError, match="first of member 1 at sample 2"):
        uncertainty(logits)
    with pytest.raises(DataError, match="NaN"):
        uncertainty(torch.full((2, 3, 4), float("-inf")))
    with pytest.raises(DataError, match="NaN"):
        uncertainty(logits.fill_(float("nan")), kind="regression")


def test_probabilities_instead_of_logits() -> None:
    logits = _logits(3, 4, 5)
    wanted, found = uncertainty(logits), uncertainty(logits.softmax(-1), outputs="probabilities")
    for name in ("probabilities", "confidence", "entropy", "mutual_information"):
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name))
    hard = uncertainty(torch.eye(3)[None], outputs="probabilities")
    assert hard.entropy.tolist() == [0.0, 0.0, 0.0]
    for wrong in (logits, logits.softmax(-1) * 2):
        with pytest.raises(DataError, match="probabilities"):
            uncertainty(wrong, outputs="probabilities")


@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 2, 2)])
def test_labels_are_measured_one_by_one(shape: tuple[int, ...]) -> None:
    logits = _logits(3, *shape)
    found = uncertainty(logits, kind="multilabel")
    torch.testing.assert_close(found.probabilities, logits.sigmoid().mean(0))
    torch.testing.assert_close(found.confidence, torch.maximum(found.probabilities, 1 - found.probabilities))
    assert torch.equal(found.prediction, logits.sigmoid().mean(0) > 0.5)
    two = uncertainty(torch.stack((torch.zeros_like(logits), logits), -1).flatten(1, -2))  # a softmax over (absent, present)
    for name in ("entropy", "mutual_information", "variation_ratio", "disagreement"):
        torch.testing.assert_close(getattr(found, name).flatten(), getattr(two, name).flatten(), atol=1e-6, rtol=1e-5)
    given = uncertainty(logits.sigmoid(), kind="multilabel", outputs="probabilities")
    torch.testing.assert_close(given.entropy, found.entropy, atol=1e-5, rtol=1e-4)
    extreme = uncertainty(torch.tensor([[[1e4, float("inf"), float("-inf")]]]), kind="multilabel")
    assert extreme.probabilities.tolist() == [[1.0, 1.0, 0.0]]
    assert extreme.entropy.tolist() == [[0.0, 0.0, 0.0]]
    with pytest.raises(DataError, match="probabilities"):
        uncertainty(logits, kind="multilabel", outputs="probabilities")


def test_regression() -> None:
    means, variances = _logits(4, 5, 2), _logits(4, 5, 2).abs()
    point = uncertainty(means, kind="regression")
    assert isinstance(point, RegressionUncertainty)
    torch.testing.assert_close(point.mean, means.mean(0))
    torch.testing.assert_close(point.epistemic, means.var(0, correction=0))
    assert not point.aleatoric.any()
    for found in (
        uncertainty((means, variances), kind="regression"),
        uncertainty({"mean": means, "variance": variances}, kind="gaussian"),
        uncertainty(torch.cat((means, variances), -1), kind="gaussian"),
        uncertainty(torch.cat((means, variances.log()), -1), kind="gaussian", variance="log"),
    ):
        torch.testing.assert_close(found.aleatoric, variances.mean(0))
        torch.testing.assert_close(found.variance, variances.mean(0) + means.var(0, correction=0))
    assert uncertainty(means[:1], kind="regression").epistemic.tolist() == torch.zeros(5, 2).tolist()
    dense = torch.cat((means.view(4, 5, 2, 1, 1), variances.view(4, 5, 2, 1, 1)), 2)
    torch.testing.assert_close(uncertainty(dense, kind="gaussian").aleatoric.flatten(), variances.mean(0).flatten())


@pytest.fixture(scope="module")
def packed() -> Any:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.5), nn.Linear(12, 5))
    return packify.pack(model, torch.randn(8, 6), alpha=2, num_estimators=3, average="probs")


def test_a_packed_network_is_measured_in_eval_mode_and_left_as_it_was(packed: Any) -> None:
    x = torch.randn(7, 6)
    packed.train()
    list(packed.modules())[-1].eval()
    before = {name: module.training for name, module in packed.named_modules()}
    statistics = {name: buffer.clone() for name, buffer in packed.named_buffers()}
    found = uncertainty(packed, x)
    assert {name: module.training for name, module in packed.named_modules()} == before
    assert all(torch.equal(buffer, statistics[name]) for name, buffer in packed.named_buffers())
    packed.eval()
    torch.testing.assert_close(found.probabilities, packed(x).softmax(-1))
    torch.testing.assert_close(found.max_logit, packed.members(x).mean(0).amax(-1))


def test_deep_ensembles_and_single_networks(packed: Any) -> None:
    x = torch.randn(7, 6)
    packed.eval()
    whole, members = uncertainty(packed, x), [packed.extract(m).eval() for m in range(3)]
    listed = uncertainty(members, x)
    for name in (*SCALARS, "probabilities"):
        torch.testing.assert_close(getattr(listed, name), getattr(whole, name), atol=1e-5, rtol=1e-4)
    assert uncertainty(members[0], x).mutual_information.tolist() == [0.0] * 7
    assert uncertainty([packed, members[0]], (x,)).entropy.shape == (7,)
    for wrapped in (torch.optim.swa_utils.AveragedModel(packed), nn.DataParallel(packed, device_ids=[])):
        torch.testing.assert_close(uncertainty(wrapped, x).mutual_information, whole.mutual_information)
    torch.testing.assert_close(uncertainty(nn.ModuleList(members), x).entropy, listed.entropy)
    assert isinstance(uncertainty(packed, {"input": x}), Uncertainty)


class _Heads(nn.Module):
    """A stand-in with the surface of a packed network."""

    num_estimators = 2

    def __init__(self, average: Any, outputs: Any) -> None:
        super().__init__()
        self.average, self.outputs = average, outputs

    def members(self, x: Any) -> Any:
        return self.outputs


@pytest.mark.parametrize(("average", "kind"), [("probs", "classification"), ("sigmoid", "multilabel"), ("mean", "regression")])
def test_the_average_says_what_is_measured(average: str, kind: Any) -> None:
    logits = _logits(2, 3, 4)
    found, wanted = uncertainty(_Heads(average, logits), 0), uncertainty(logits, kind=kind)
    for name, value in vars(wanted).items():
        assert torch.equal(getattr(found, name), value)


def test_gaussian_networks() -> None:
    outputs = torch.cat((_logits(2, 3, 1), _logits(2, 3, 1).abs()), -1)
    assert uncertainty(_Heads("gaussian", outputs), 0).mean.shape == (3, 1)
    pair = (outputs[..., :1], outputs[..., 1:])
    assert uncertainty(_Heads("mean", pair), 0).aleatoric.any()
    both = uncertainty([_Heads("mean", pair), _Heads("mean", pair)], 0)
    torch.testing.assert_close(both.epistemic, uncertainty(pair, kind="regression").epistemic)


@pytest.mark.parametrize("average", ["none", "vote", {"a": "probs", "b": "mean"}])
def test_an_average_that_says_nothing_is_no_guess(average: Any) -> None:
    with pytest.raises(SpecError, match="kind"):
        uncertainty(_Heads(average, _logits(2, 3, 4)), 0)
    assert uncertainty(_Heads(average, _logits(2, 3, 4)), 0, kind="classification").entropy.shape == (3,)


def test_one_of_several_outputs() -> None:
    logits, other = _logits(2, 3, 4), _logits(2, 3, 7)
    wanted = uncertainty(logits).entropy
    assert torch.equal(uncertainty(_Heads("probs", {"logits": logits, "hidden": other}), 0).entropy, wanted)
    assert torch.equal(uncertainty(_Heads("probs", {"a": other, "b": logits}), 0, output="b").entropy, wanted)
    assert torch.equal(uncertainty(_Heads("probs", (other, logits)), 0, output=1).entropy, wanted)
    assert torch.equal(uncertainty(_Heads("probs", SimpleNamespace(logits=logits, loss=None)), 0).entropy, wanted)
    assert torch.equal(uncertainty(_Heads({"a": "mean", "b": "probs"}, {"a": other, "b": logits}), 0, output="b").entropy, wanted)
    with pytest.raises(DataError, match="output=0") as caught:
        uncertainty(_Heads("probs", (other, logits)), 0)
    assert "(2, 3, 7)" in caught.value.found
    with pytest.raises(DataError, match="output='c'"):
        uncertainty(_Heads("probs", {"a": logits}), 0, output="c")


def test_wrong_calls() -> None:
    logits = _logits(2, 3, 4)
    with pytest.raises(SpecError, match="kind"):
        uncertainty(logits, kind="classes")  # type: ignore[call-overload]
    with pytest.raises(SpecError, match="outputs"):
        uncertainty(logits, outputs="probs")  # type: ignore[call-overload]
    with pytest.raises(DataError, match="no input"):
        uncertainty(nn.Linear(2, 2))
    with pytest.raises(DataError, match="need no input"):
        uncertainty(logits, logits)
    with pytest.raises(DataError, match="one class"):
        uncertainty(_logits(2, 3, 1))
    for wrong in (_logits(3, 4), logits.long(), logits.to(torch.complex64)):
        with pytest.raises(DataError, match="members first"):
            uncertainty(wrong)
    with pytest.raises(SpecError, match="class_axis"):
        uncertainty(logits, class_axis=0)
    with pytest.raises(DataError, match=r"\(3, 4\), \(3, 5\)"):
        uncertainty([_Heads("probs", _logits(2, 3, 4)), _Heads("probs", _logits(2, 3, 5))], 0)
