"""`packify.verify`: quiet on what is right, and an error that names the node on what is broken."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import packify
from tests.models.catalogue import CASES


@pytest.mark.slow_cases("random encoder")
@pytest.mark.parametrize(
    "name",
    [
        "mlp",
        "unet",
        "vit",
        "lstm",
        "text",
        "reused",
        "weight norm",
        "auxiliary",
        "random drop path",
        "random encoder",
        "two named inputs",
        "seq2seq",
    ],
)
def test_networks_that_keep_the_laws(name: str) -> None:
    torch.manual_seed(0)
    inputs = CASES[name].inputs()
    packed = packify.pack(CASES[name].build(), inputs, alpha=2, num_estimators=2)
    before, state = copy.deepcopy(packed.state_dict()), torch.get_rng_state()
    mode = [module.training for module in packed.modules()]
    for result in (packify.verify(packed), packify.verify(packed, inputs)):
        assert result.independence == 0
        assert result.equality < 1e-8
        assert result.parity < 1e-5
        assert result.activations > 0
        assert json.dumps(result.to_dict())
        assert str(result)
    assert all(torch.equal(tensor, before[key]) for key, tensor in packed.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert mode == [module.training for module in packed.modules()]


class Mixing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(torch.tanh(self.one(x))).mean((2, 3))


def test_a_rule_that_mixes_members_is_caught_and_named() -> None:
    def mix(builder: object, node: object, x: object) -> object:
        return builder.result(builder.emit(_rolled, x), node.meta["val"], x.axis)

    bad = packify.Rule("pointwise", lambda propagation, x: x.dims, mix)
    packed = packify.pack(Mixing(), torch.randn(2, 3, 4, 4), alpha=2, num_estimators=2, rules={"tanh": bad})
    with pytest.raises(packify.LawBroken) as caught:
        packify.verify(packed)
    assert "member" in str(caught.value)


def _rolled(x: Tensor) -> Tensor:
    return torch.tanh(x).roll(1, 1)


def test_independent_inputs() -> None:
    packed = packify.pack(Mixing(), torch.randn(4, 3, 4, 4), alpha=2, num_estimators=2, inputs="independent")
    found = packify.verify(packed)
    assert found.independence == 0
    packed.inputs = "shared"
    assert found.activations > packify.verify(packed).activations  # both forms were looked at


def test_independent_inputs_that_mix_members_are_caught() -> None:
    packed = packify.pack(Mixing(), torch.randn(4, 3, 4, 4), alpha=2, num_estimators=2, inputs="independent")
    for node in packed.graphs["independent"].nodes:
        if node.op == "call_function" and "tanh" in str(node.target):
            node.target = _rolled
    packed.recompile()
    with pytest.raises(packify.LawBroken):
        packify.verify(packed)


def test_a_network_without_data() -> None:
    with torch.device("meta"):
        model = Mixing()
    packed = packify.pack(model, torch.empty(2, 3, 4, 4), alpha=2, num_estimators=2)
    with pytest.raises(packify.PackifyError):
        packify.verify(packed)


class Applied(nn.Module):
    """Two layers with a function of the first's output and of the inputs between them."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.one, self.two, self.function = nn.Linear(8, 8), nn.Linear(8, 4), function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.two(self.function(self.one(inputs[0]), *inputs))


def _attention(h: Tensor, x: Tensor, mask: Tensor) -> Tensor:
    scores = (h @ h.transpose(1, 2)).masked_fill(~mask, -torch.inf).softmax(-1)
    return scores.masked_fill(~mask, 0) @ h


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (lambda h, x, adjacency: adjacency @ torch.relu(h), (torch.randn(6, 8), torch.rand(6, 6))),  # nodes, and not a batch
        (lambda h, x: torch.relu(h), torch.randn(8)),  # one sample
        (lambda h, x: h + torch.log(x), torch.rand(3, 8)),  # positive inputs only
        (_attention, (torch.randn(2, 5, 8), torch.ones(2, 5, 5, dtype=torch.bool))),  # rows without a single True
    ],
)
def test_inputs_of_every_kind_are_drawn(function: Callable[..., Tensor], inputs: Any) -> None:
    torch.manual_seed(0)
    packed = packify.pack(Applied(function), inputs, alpha=2, num_estimators=2)
    result = packify.verify(packed)
    assert result.independence == 0
    assert result.activations > 4


def test_a_leak_of_nan_is_a_leak() -> None:
    def mix(builder: Any, node: Any, x: Any) -> Any:
        return builder.result(builder.emit(_lost, x), node.meta["val"], x.axis)

    bad = packify.Rule("pointwise", lambda propagation, x: x.dims, mix)
    packed = packify.pack(Mixing(), torch.randn(2, 3, 4, 4), alpha=2, num_estimators=2, rules={"tanh": bad})
    with pytest.raises(packify.LawBroken):
        packify.verify(packed)


def _lost(x: Tensor) -> Tensor:
    return torch.tanh(x) + 0 * (x - x.detach()).roll(1, 1).sqrt()


def test_inputs_that_must_be_given() -> None:
    x = 4 + torch.rand(3, 8)
    packed = packify.pack(Applied(lambda h, x: h + torch.log(x - 3)), x, alpha=2, num_estimators=2)
    with pytest.raises(packify.PackError, match="pass x="):
        packify.verify(packed)
    assert packify.verify(packed, x).activations


def test_a_reference_that_cannot_be_differentiated() -> None:
    packed = packify.pack(Applied(lambda h, x: h.exp().add_(h)), torch.randn(3, 8), alpha=2, num_estimators=2)
    with pytest.raises(packify.PackError, match="in place"):
        packify.verify(packed)


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch": 0}, {"batch": -1}, {"batch": "a"}, {"dtype": "float64"}, {"dtype": torch.int32}, {"seed": "x"},
        {"x": torch.randn(0, 3, 4, 4)}, {"x": torch.full((2, 3, 4, 4), torch.nan)},
    ],
)  # fmt: skip
def test_wrong_arguments(wrong: dict[str, Any]) -> None:
    packed = packify.pack(Mixing(), torch.randn(2, 3, 4, 4), alpha=2, num_estimators=2)
    with pytest.raises(packify.PackifyError) as caught:
        packify.verify(packed, **wrong)
    assert caught.value.where in wrong


def test_a_model_with_a_packed_part() -> None:
    model = packify.pack_submodule(nn.Sequential(Mixing(), nn.ReLU()), "0", torch.randn(2, 3, 4, 4), alpha=2, num_estimators=2)
    with pytest.raises(packify.PackError, match=r"get_submodule\('0'\)"):
        packify.verify(model)
    assert packify.verify(model.get_submodule("0")).independence == 0
    with pytest.raises(packify.PackError):
        packify.verify(None)


class Dropping(nn.Module):
    """A module that needs values, and draws in code of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.dropout(self.fc(x), 0.5, self.training)
        return x if bool(torch.isfinite(x).all()) else x.clamp(-1, 1)


def test_modules_kept_whole_that_draw_at_random() -> None:
    model = nn.Sequential(nn.Linear(5, 8), Dropping(), nn.ReLU(), Dropping(), nn.Linear(8, 3))
    packed = packify.pack(model, torch.randn(2, 5), alpha=2, num_estimators=2, leaves=[Dropping])
    result = packify.verify(packed)
    assert result.equality < 1e-8
    assert result.parity < 1e-5


class _Drawing(nn.Module):
    """Samples with a gradient, in a state whose size code writes, returned as a dictionary of the user's."""

    class Outputs(dict[str, Tensor]):
        __getattr__ = dict.__getitem__

    def __init__(self) -> None:
        super().__init__()
        self.logits, self.state, self.head = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Any:
        z = nn.functional.gumbel_softmax(self.logits(x).view(-1, 4, 4), hard=True).flatten(1)
        state = self.state(x.new(x.size(0), 16).zero_()) + z
        if self.training:
            state = state + torch.normal(0.0, 1.0, size=state.shape) * 0.1
        outputs = self.Outputs()
        outputs["y"] = self.head(state)
        return outputs


def test_samples_with_a_gradient() -> None:
    torch.manual_seed(0)
    packed = packify.pack(_Drawing(), torch.randn(4, 6), alpha=2, num_estimators=4)
    assert packify.verify(packed).parity < 1e-8
    assert [note.node for note in packed.report.pins] == ["head"]
