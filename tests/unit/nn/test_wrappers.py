"""Parts of a network behind what is wrapped around modules."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.utils import parametrize

from packify.nn.wrappers import has_forward_hooks, held_tensor, is_frozen, part_of, plain_name, remove_wrappers, unwrapped


class _Twice(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def _net() -> nn.Sequential:
    return nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), nn.Linear(2, 2))


def test_what_is_inside_wrappers() -> None:
    net = _net()
    inner, linear = net[0], net[0][0]
    net[0][0] = torch.compile(linear, backend="eager")
    net[0] = checkpoint_wrapper(inner)
    assert unwrapped(net[0]) is inner
    assert unwrapped(net) is net
    assert part_of(net, "") is net
    assert part_of(net, "0") is inner
    assert part_of(net, "0.0") is linear
    assert plain_name("0._checkpoint_wrapped_module.0._orig_mod.weight") == "0.0.weight"
    with pytest.raises(AttributeError, match="no part called 'x'"):
        part_of(net, "0.x")
    remove_wrappers(net)
    assert net[0] is inner
    assert net[0][0] is linear


def test_tensors_behind_wrappers_and_parametrisations() -> None:
    net = _net()
    weight, mean = net[1].weight, net[0][1].running_mean
    net[0] = checkpoint_wrapper(net[0])
    assert held_tensor(net, "0.1.running_mean") is mean
    assert held_tensor(net, "1.weight") is weight
    parametrize.register_parametrization(net[1], "weight", _Twice())
    assert torch.equal(held_tensor(net, "1.weight"), 2 * weight)


def test_frozen_parameters() -> None:
    net = _net()
    net[0].requires_grad_(False)
    net[0] = checkpoint_wrapper(net[0])
    parametrize.register_parametrization(net[1], "weight", _Twice())
    assert is_frozen(net, "0.0.weight")
    assert not is_frozen(net, "0.1.running_mean")
    with torch.no_grad():
        assert not is_frozen(net, "1.weight")
    assert not is_frozen(net, "1.bias")


def test_forward_hooks_of_a_module_are_its_own() -> None:
    outer = nn.Sequential(nn.ReLU())
    assert not has_forward_hooks(outer)
    handle = outer[0].register_forward_pre_hook(lambda module, args: None)
    assert has_forward_hooks(outer[0])
    assert not has_forward_hooks(outer)
    handle.remove()
    outer.register_forward_hook(lambda module, args, output: None)
    assert has_forward_hooks(outer)
    assert not has_forward_hooks(outer[0])
