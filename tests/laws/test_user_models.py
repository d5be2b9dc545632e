"""The laws over small networks as users write them."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

import packify
from tests.laws import checks
from tests.models.catalogue import CASES

_SPECS = {
    "a2-M4": {"alpha": 2, "num_estimators": 4},
    "a1.5-M3": {"alpha": 1.5, "num_estimators": 3},
    "a2-M2-g2": {"alpha": 2, "num_estimators": 2, "gamma": 2, "min_channels_per_group": 1},
}
_CALM = [name for name, case in CASES.items() if not case.random]


@functools.cache
def _recorded(name: str) -> packify.Recording:
    """A case, recorded once for all tests of one process; recording leaves the model as it was."""
    torch.manual_seed(0)
    model, inputs = CASES[name].build(), CASES[name].inputs()
    with checks.untouched(model):
        return packify.record(model, inputs)


def _case(name: str) -> tuple[nn.Module, object, packify.Recording]:
    """A model of one's own, its inputs, and its recording."""
    recording = _recorded(name)
    torch.manual_seed(0)
    return CASES[name].build(), recording.example_inputs, recording


@pytest.mark.parametrize("spec", _SPECS.values(), ids=_SPECS)
@pytest.mark.parametrize("name", _CALM)
def test_laws(name: str, spec: dict[str, float]) -> None:
    model, inputs, recording = _case(name)
    with checks.untouched(recording.model):
        packed = recording.pack(**spec)
    checks.check_all(packed, model, inputs)


@pytest.mark.parametrize("name", _CALM)
def test_packed_whole_networks_compute_what_the_users_code_computes(name: str) -> None:
    _, inputs, recording = _case(name)
    checks.check_same_function(recording.pack(alpha=2, num_estimators=2), CASES[name].build, inputs)


@pytest.mark.parametrize("name", _CALM)
def test_identity(name: str) -> None:
    model, inputs, recording = _case(name)
    packed = recording.pack(alpha=1, num_estimators=1)
    own = packed.state_dict()
    packed.load_state_dict({name: tensor.reshape(own[name].shape) for name, tensor in model.state_dict().items() if name in own})
    for training in (False, True):
        model.train(training)
        packed.train(training)
        checks.no_dropout(model)
        checks.no_dropout(packed)
        with torch.no_grad():
            theirs, ours = checks.leaves(checks.call(model, inputs)), checks.leaves(checks.call(packed.members, inputs))
        for mine, other in zip(ours, theirs, strict=True):
            checks.close(mine[0], other, f"{'train' if training else 'eval'} mode", 1e-6)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.random])
def test_members_draw_their_own_masks(name: str) -> None:
    _, inputs, recording = _case(name)
    packed = recording.pack(alpha=2, num_estimators=2)
    with torch.no_grad():
        for parameter in packed.parameters():
            first = parameter.chunk(2)[0]
            parameter.chunk(2)[1].copy_(first)
        packed.eval()
        calm = packed.members(inputs)
        checks.close(calm[0], calm[1], "eval mode")
        packed.train()
        wild = packed.members(inputs)
        assert not torch.equal(wild[0], wild[1])
        assert not torch.equal(wild, packed.members(inputs))
