"""Exchanging parts of packed networks: what takes effect, what is refused, what members are then."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import packify
from packify.core.errors import PackError
from packify.nn.exchange import by_member, exchanged_parts
from tests.unit.nn.exchanged import IMAGES, Network, ResidualBlock


@pytest.fixture
def packed() -> packify.PackedNetwork:
    torch.manual_seed(0)
    return packify.pack(Network(), IMAGES, alpha=2, num_estimators=2).eval()


def test_another_activation_takes_effect_and_members_have_it(packed: packify.PackedNetwork) -> None:
    before = packed.members(IMAGES)
    packed.layers[0].act = nn.SiLU()
    after = packed.members(IMAGES)
    assert not torch.equal(before, after)
    for member in range(2):
        torch.testing.assert_close(packed.extract(member).eval()(IMAGES), after[member])
    packify.verify(packed)
    assert list(exchanged_parts(packed)) == ["layers.0.act"]


def test_all_of_a_kind_are_replaced(packed: packify.PackedNetwork) -> None:
    assert packed.replace(nn.ReLU, lambda old: nn.GELU()) == ["layers.0.act", "layers.1.act"]
    assert all(isinstance(packed.layers[index].act, nn.GELU) for index in range(2))
    assert packed.replace(lambda part: isinstance(part, nn.GELU), lambda old: nn.Tanh()) == ["layers.0.act", "layers.1.act"]
    with pytest.raises(PackError, match="no part of that kind"):
        packed.replace(nn.LSTM, lambda old: old)


def test_blocks_are_of_the_type_of_their_module(packed: packify.PackedNetwork) -> None:
    with pytest.raises(PackError, match=r"choose one of (?!.*Network).*ResidualBlock"):
        packed.replace(nn.LSTM, lambda old: old)
    assert packed.replace(ResidualBlock, lambda old: nn.Identity()) == ["layers.0", "layers.1"]
    assert packed.eval()(IMAGES).shape == (2, 5)
    with pytest.raises(PackError, match="the Identity there is given"):
        packed.layers[0] = nn.Flatten()


def test_what_does_not_fit_is_told_with_both_shapes(packed: packify.PackedNetwork) -> None:
    before = packed.fc
    with pytest.raises(PackError) as error:
        packed.fc = nn.Linear(8, 37)
    text = str(error.value)
    assert "fc" in text
    assert "(5, 16)" in text or "(10, 8)" in text
    assert "37" in text or "shapes cannot be multiplied" in text
    assert "packed.resize('fc', size)" in text
    assert packed.fc is before
    with pytest.raises(PackError, match="it returns"):
        packed.layers[1].act = nn.Flatten()
    with pytest.raises(PackError, match="forward never calls it"):
        packed.layers = nn.Sequential(nn.Identity())


def test_a_part_with_weights_of_its_own_runs_but_belongs_to_no_member(packed: packify.PackedNetwork) -> None:
    packed.layers[0].act = nn.PReLU(16)
    assert packed.members(IMAGES).shape == (2, 2, 5)
    for refused in (lambda: packed.extract(0), lambda: packify.verify(packed), lambda: packed.digest):
        with pytest.raises(PackError, match=r"layers\.0\.act"):
            refused()


def test_a_part_that_mixes_members_is_none_for_a_member(packed: packify.PackedNetwork) -> None:
    packed.layers[0].act = nn.Softmax(1)
    with pytest.raises(PackError, match="all members together"):
        packed.extract(0)


def test_an_artefact_of_an_exchanged_network_is_refused(packed: packify.PackedNetwork, tmp_path: Any) -> None:
    packed.layers[0].act = nn.SiLU()
    with pytest.raises(PackError, match="put there after packing"):
        packify.save(packed, tmp_path / "net")


def test_what_hooks_see_is_split_by_member(packed: packify.PackedNetwork) -> None:
    seen: dict[str, Any] = {}
    for name in ("layers.1", "layers.1.conv", "fc"):
        part = packed.get_submodule(name)
        part.register_forward_hook(lambda module, args, output, name=name: seen.update({name: by_member(module, output)}))
        part.register_forward_pre_hook(lambda module, args, name=name: seen.update({f"{name} in": by_member(module, args, "input")[0]}))
    packed.members(IMAGES)
    assert {name: tuple(value.shape) for name, value in seen.items()} == {
        "layers.1": (2, 2, 8, 6, 6), "layers.1 in": (2, 2, 8, 6, 6), "layers.1.conv": (2, 2, 8, 6, 6), "layers.1.conv in": (2, 2, 8, 6, 6),
        "fc": (2, 2, 5), "fc in": (2, 2, 8),
    }  # fmt: skip
    alone = packed.extract(1).eval()
    own = seen["layers.1"][1]
    alone.get_submodule("layers.1").register_forward_hook(lambda module, args, output: torch.testing.assert_close(output, own))
    alone(IMAGES)
    with pytest.raises(PackError, match="no known place"):
        by_member(nn.Linear(1, 1), IMAGES)


def test_hooks_change_inputs_and_outputs(packed: packify.PackedNetwork) -> None:
    whole = packed.members(IMAGES)
    handle = packed.layers[1].register_forward_hook(lambda module, args, output: args[0])
    skipped = packed.members(IMAGES)
    handle.remove()
    packed.layers[1].register_forward_pre_hook(lambda module, args, kwargs: ((args[0] * 0,), kwargs), with_kwargs=True)
    zero = packed.members(IMAGES)
    assert not torch.equal(whole, skipped)
    assert not torch.equal(whole, zero)
    assert not torch.equal(skipped, zero)


def test_backward_hooks_fire_on_every_block_and_layer(packed: packify.PackedNetwork) -> None:
    reference = Network()
    for layer in reference.layers:
        layer.act = nn.ReLU()
    packed.replace(nn.ReLU, lambda old: nn.ReLU())  # torch refuses full backward hooks on what is then changed in place
    wanted, found = (_backward_hooks(network.train()) for network in (reference, packed))
    assert found == wanted
    assert set(found) >= {"stem", "layers.0", "layers.0.conv", "layers.0.norm", "layers.0.act", "layers.1.conv", "fc"}


def _backward_hooks(network: nn.Module) -> list[str]:
    """The modules whose full backward hooks fire, in order."""
    seen: list[str] = []
    for name, module in network.named_modules():
        if name and name != "layers":
            module.register_full_backward_hook(lambda module, grad_input, grad_output, name=name: seen.append(name))
    network(IMAGES.clone().requires_grad_()).sum().backward()
    return seen


def test_exchanged_copies_and_pickles(packed: packify.PackedNetwork) -> None:
    packed.layers[0].act = nn.SiLU()
    assert torch.equal(copy.deepcopy(packed)(IMAGES), packed(IMAGES))
