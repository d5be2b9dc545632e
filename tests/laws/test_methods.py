"""The paper's other ensembles over networks of random blocks: against the reference with hooks, and against their extracted members."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import packify
from packify.core.method_specs import BatchEnsembleSpec, MasksemblesSpec, MethodSpec, MimoSpec
from packify.laws.observation import Batch, call, floating, relative
from packify.laws.shared_members import measure_shared
from tests.laws import checks, hooked
from tests.models.generated import IMAGE_BLOCKS, TOKEN_BLOCKS, Images, Tokens

Hand = Callable[[nn.Module, Any, Any], list[list[Tensor]]]


def _calm(examples: int) -> settings:
    return settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck), print_blob=False
    )


def _blocks(names: Any) -> Any:
    return st.lists(st.tuples(st.sampled_from(sorted(names)), st.integers(0, 11)), min_size=1, max_size=3)


_images = st.builds(
    lambda blocks, width, dense: (lambda: Images(blocks, width, dense), torch.randn(3, 3, 7, 7)),
    _blocks(IMAGE_BLOCKS), st.sampled_from([8, 12, 20]), st.booleans(),
)  # fmt: skip
_tokens = st.builds(
    lambda blocks, width, outputs, second: (
        lambda: Tokens(blocks, width, outputs, second), (torch.randn(3, 6, 5), torch.randn(3, 4)) if second else torch.randn(3, 6, 5)
    ),
    _blocks(TOKEN_BLOCKS), st.sampled_from([8, 12, 20]), st.sampled_from(["one", "tuple", "dict"]), st.booleans(),
)  # fmt: skip
_networks = st.one_of(_images, _tokens)
_members = st.integers(2, 4)


def _settled(build: Callable[[], nn.Module]) -> nn.Module:
    """A reference in evaluation mode, in float64, no norm of which is the identity."""
    torch.manual_seed(0)
    model = build().double().eval()
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if "running_var" in name:
                tensor.uniform_(0.5, 2)
            elif "running_mean" in name or tensor.dim() == 1:
                tensor.add_(0.3 * torch.randn_like(tensor))
    return model


def _check(build: Callable[[], nn.Module], inputs: Any, by_hand: Hand, spec: MethodSpec, train: bool) -> None:
    """Outputs and gradients are those of the definition, members are the extracted ones, nothing else is touched."""
    model, inputs = _settled(build), checks.doubled(inputs)
    with checks.untouched(model):
        network = packify.record(model, inputs).method(spec, average="none").eval()
    report = network.report
    assert report.params == sum(parameter.numel() for parameter in network.parameters())
    assert report.params - report.reference_params == sum(layer.params for layer in report.layers) + _own_norms(network, model)
    for name, tensor in model.named_parameters():
        held = network.get_parameter(name)
        assert held.shape[0] == tensor.shape[0] * (network.num_estimators if name in network.own else 1)
    if hooked.plain(model):
        _compare(model, network, inputs, by_hand)
    measure_shared(checks.randomised(network), Batch(inputs), checks.TOLERANCE, train=train)


def _own_norms(network: Any, model: nn.Module) -> int:
    """What members' own norms add."""
    if getattr(network.spec, "norms", "shared") == "shared":
        return 0
    norms = {f"{name}.{one}" for name, part in model.named_modules() if "Norm" in type(part).__name__ for one in ("weight", "bias")}
    return (network.num_estimators - 1) * sum(p.numel() for n, p in model.named_parameters() if n in norms)


def _compare(model: nn.Module, network: Any, inputs: Any, by_hand: Hand) -> None:
    found, wanted = floating(call(network.members, inputs)), by_hand(model, network, inputs)
    tensors = dict(network.named_parameters())
    gradients = [
        torch.autograd.grad(sum(output.sin().sum() for output in outputs), list(tensors.values()), allow_unused=True)
        for outputs in (found, [output for own in wanted for output in own])
    ]
    for member, own in enumerate(wanted):
        for index, output in enumerate(own):
            assert relative(found[index][member], output) < checks.TOLERANCE, f"output {index} of member {member}"
    for name, one, other in zip(tensors, *gradients, strict=True):
        one, other = (torch.zeros(()) if gradient is None else gradient for gradient in (one, other))
        assert float((one - other).abs().max()) < 1e-8 * max(1.0, float(other.abs().max())), name


def _check_batch_ensemble(network: Any, members: int, norms: Any, factors: Any, *, train: bool = False) -> None:
    _check(*network, hooked.batch_ensemble, BatchEnsembleSpec(members, norms, factors), train)


def _check_masksembles(network: Any, members: int, scale: float, seed: int, *, train: bool = False) -> None:
    try:
        _check(*network, hooked.masksembles, MasksemblesSpec(members, scale, seed=seed), train)
    except packify.SpecError as error:
        if "fewer than 10" not in str(error) and "too rare" not in str(error):
            raise


def _check_mimo(network: Any, members: int, *, train: bool = False) -> None:
    _check(*network, hooked.mimo, MimoSpec(members), train)


_norms, _factors = st.sampled_from(["shared", "member"]), st.sampled_from(["normal", "signs"])
_scales, _seeds = st.sampled_from([1.0, 1.5, 2.0, 3.0]), st.integers(0, 3)


@pytest.mark.slow
@_calm(2)
@given(network=_networks, members=_members, norms=_norms, factors=_factors)
def test_batch_ensembles(network: Any, members: int, norms: str, factors: str) -> None:
    _check_batch_ensemble(network, members, norms, factors)


@_calm(2)
@given(network=_networks, members=_members, scale=_scales, seed=_seeds)
def test_masksembles(network: Any, members: int, scale: float, seed: int) -> None:
    _check_masksembles(network, members, scale, seed)


@_calm(2)
@given(network=_networks, members=_members)
def test_mimo(network: Any, members: int) -> None:
    _check_mimo(network, members)


@pytest.mark.slow
@_calm(40)
@given(network=_networks, members=_members, norms=_norms, factors=_factors)
def test_many_batch_ensembles(network: Any, members: int, norms: str, factors: str) -> None:
    _check_batch_ensemble(network, members, norms, factors, train=True)


@pytest.mark.slow
@_calm(40)
@given(network=_networks, members=_members, scale=_scales, seed=_seeds)
def test_many_masksembles(network: Any, members: int, scale: float, seed: int) -> None:
    _check_masksembles(network, members, scale, seed, train=True)


@pytest.mark.slow
@_calm(40)
@given(network=_networks, members=_members)
def test_many_mimo(network: Any, members: int) -> None:
    _check_mimo(network, members, train=True)
