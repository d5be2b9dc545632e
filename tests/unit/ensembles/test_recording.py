from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import packify
from tests.laws import checks
from tests.models import interfaces
from tests.models.catalogue import CASES
from tests.unit.ensembles.small import small_network


def test_the_reference_and_the_random_states_are_untouched() -> None:
    model = small_network().train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    calls: list[str] = []
    model[0].register_forward_hook(lambda *_: calls.append("forward"))
    model.register_forward_pre_hook(lambda *_: calls.append("before"))
    x = torch.randn(2, 3, 8, 8)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    with checks.untouched(model):
        packed = packify.pack(model, x, alpha=2, num_estimators=2)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert (states[2] == np.random.get_state()[1]).all()
    assert calls == []
    assert torch.is_grad_enabled()
    assert packed.training
    assert not packed.get_submodule("1").training
    assert not packed.get_parameter("0.weight").requires_grad
    assert any("hook" in note.what for note in packed.report.notes)


@pytest.mark.parametrize("name", ["vit", "unet", "old weight norm", "lstm", "seq2seq"])
def test_packing_leaves_the_random_state_alone(name: str) -> None:
    model, inputs = CASES[name].build(), CASES[name].inputs()
    state = torch.get_rng_state()
    packify.pack(model, inputs, alpha=2, num_estimators=2)
    assert torch.equal(state, torch.get_rng_state())


def test_one_seed_gives_one_network() -> None:
    model, x = small_network(), torch.randn(2, 3, 8, 8)
    first = packify.pack(model, x, alpha=2, num_estimators=2, seed=3)
    torch.randn(5)
    again, other = (packify.pack(model, x, alpha=2, num_estimators=2, seed=seed) for seed in (3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert not torch.equal(first.get_parameter("0.weight"), other.get_parameter("0.weight"))
    one, two = first.get_parameter("0.weight").chunk(2)
    assert not torch.equal(one, two)


def test_the_packed_network_shares_no_storage_with_the_reference() -> None:
    model = interfaces.Tables()
    packed = packify.pack(model, torch.randn(2, 5, 6), alpha=1, num_estimators=1)
    theirs = {tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    assert not theirs & {tensor.data_ptr() for tensor in (*packed.parameters(), *packed.buffers())}


def test_a_reference_on_the_meta_device_gives_a_network_there() -> None:
    with torch.device("meta"):
        model = small_network()
    packed = packify.pack(model, torch.empty(2, 3, 8, 8), alpha=2, num_estimators=2)
    assert all(parameter.is_meta for parameter in packed.parameters())
    assert packed.report.packed_params == sum(parameter.numel() for parameter in packed.parameters())


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        (None, "module"),
        (3, "module"),
        (nn.ReLU, r"ReLU\(\.\.\.\)"),
        (torch.relu, "module"),
        ("resnet18", "load_reference"),
        (torch.jit.trace(nn.Linear(3, 3), torch.randn(2, 3)), "made from"),
    ],
)
def test_something_that_is_no_module(model: Any, hint: str) -> None:
    x, spec = torch.randn(2, 3), {"alpha": 2, "num_estimators": 2}
    for function in (packify.pack, packify.budget):
        with pytest.raises(packify.TraceError, match=hint):
            function(model, x, **spec)
    with pytest.raises(packify.TraceError, match=hint):
        packify.pack_members([nn.Linear(3, 3), model], x)
    with pytest.raises(packify.TraceError, match=hint):
        packify.pack_submodule(model, "0", x, **spec)


@pytest.mark.slow
def test_wrappers_are_taken_off() -> None:
    model = small_network()
    for wrapped in (nn.DataParallel(model), torch.compile(model)):
        packed = packify.pack(wrapped, torch.randn(2, 3, 8, 8), alpha=2, num_estimators=2)
        assert list(packed.state_dict()) == list(model.state_dict())


def test_a_default_device_changes_nothing() -> None:
    model, x = small_network(), torch.randn(2, 3, 8, 8)
    expected = packify.pack(model, x, alpha=2, num_estimators=2).state_dict()
    with torch.device("meta"):
        packed = packify.pack(model, x, alpha=2, num_estimators=2)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in packed.state_dict().items())


def test_inference_mode_ends_at_the_door() -> None:
    model, x = small_network(), torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        packed = packify.pack(model, x, alpha=2, num_estimators=2)
        single, together = packed.extract(0), packify.pack_members([model, small_network()], x)
        inside = packify.verify(packed, torch.randn(2, 3, 8, 8))
    assert inside.activations
    for network in (packed, single, together):
        network(x).square().sum().backward()
        assert network.get_parameter("0.weight").grad is not None


@pytest.mark.parametrize(
    "inputs", [torch.randn(2, 3), torch.randn(2, 5, 8, 8), (torch.randn(2, 3, 8, 8),) * 2, {"y": torch.randn(2, 3, 8, 8)}, (), None, "x"]
)
def test_inputs_that_the_model_refuses(inputs: Any) -> None:
    with pytest.raises(packify.TraceError) as caught:
        packify.pack(small_network(), inputs, alpha=2, num_estimators=2)
    assert caught.value.fix


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        if x.sum() > 0:
            x = -x
        return self.two(x)


def test_control_flow_on_values_names_the_users_line() -> None:
    with pytest.raises(packify.TraceError) as caught:
        packify.pack(Branching(), torch.randn(2, 5), alpha=2, num_estimators=2)
    line = 1 + next(number for number, text in enumerate(Path(__file__).read_text().splitlines()) if text.strip() == "if x.sum() > 0:")
    assert f"{Path(__file__).name}:{line}" in str(caught.value)
    assert "leaves" in str(caught.value)
    assert "pack_submodule" in str(caught.value)


class _Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.head = nn.Linear(6, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor, mode: str, features: bool = False, scale: float | None = None) -> Tensor:
        if mode == "by value" and x.sum() > 0:
            x = -x
        y = self.trunk(x) if scale is None else self.trunk(x) * scale
        return y if features else self.head(y)


def test_concrete_args_choose_the_branch_for_good(tmp_path: Path) -> None:
    x = torch.randn(3, 6)
    chosen = {"mode": "plain", "features": True, "scale": 2.0}
    packed = packify.pack(_Branching(), x, alpha=2, num_estimators=2, concrete_args=chosen)
    packify.verify(packed)
    assert packed.members(x).shape == (2, 3, 8)
    torch.testing.assert_close(packed.members(x, "plain", features=True), packed.members(x))
    assert packed.extract(0)(x).shape == (3, 8)
    packify.save(packed, tmp_path / "packed")
    assert packify.load(tmp_path / "packed", model=_Branching()).members(x).shape == (2, 3, 8)
    with pytest.raises(packify.PackError, match="recorded with features=True"):
        packed(x, features=False)
    together = packify.pack_members([_Branching(), _Branching()], x, concrete_args={"mode": "plain"})
    assert together.members(x).shape == (2, 3, 4)


@pytest.mark.parametrize(
    ("concrete_args", "found"),
    [
        ({"mode": "plain", "no_such": 1}, "no_such"),
        ({"x": None, "mode": "plain"}, "x in example_inputs too"),
        ({"features": True}, "mode"),
    ],
)
def test_concrete_args_that_do_not_fit_are_refused(concrete_args: dict[str, Any], found: str) -> None:
    with pytest.raises(packify.TraceError, match=found):
        packify.pack(_Branching(), torch.randn(3, 6), alpha=2, num_estimators=2, concrete_args=concrete_args)


def test_the_three_ways_out_are_named_where_code_needs_values() -> None:
    with pytest.raises(packify.TraceError, match=r"leaves=.*concrete_args=.*pack_submodule"):
        packify.pack(_Branching(), (torch.randn(3, 6), "by value"), alpha=2, num_estimators=2)
