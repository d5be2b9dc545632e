from __future__ import annotations

import copy

import torch
from torch import nn
from torch.func import functional_call, grad

from packify.execution.in_turn import MemberGraph
from tests.unit.execution.networks import image, packed_convs


def test_views_are_kept_while_the_tensors_are_the_same() -> None:
    packed = packed_convs()
    tensors = MemberGraph(packed, "eval").tensors
    with torch.no_grad():
        first = tensors.views()
        assert first[2][0].data_ptr() == packed.get_parameter("0.weight").chunk(4)[2].data_ptr()
        assert tensors.views()[0][0] is first[0][0]
        packed.get_parameter("0.weight").data = torch.zeros_like(packed.get_parameter("0.weight"))
        assert not tensors.views()[0][0].any()


def test_each_gradient_is_written_once() -> None:
    packed = packed_convs()
    tensors = MemberGraph(packed, "train").tensors
    shares = [own[0] for own in tensors.views()]
    assert {type(share.grad_fn).__name__ for share in shares} == {"UnbindBackward0"}
    assert len({share.grad_fn for share in shares}) == 1


def test_weights_that_change_in_place_are_seen() -> None:
    packed = packed_convs().eval()
    packed.strategy = "in turn"
    with torch.no_grad():
        packed.members(image())
        for parameter in packed.parameters():
            parameter.add_(1e-2)
        found = packed.members(image())
        packed.strategy = "grouped"
        torch.testing.assert_close(found, packed.members(image()))


def test_tensors_that_are_exchanged_are_seen() -> None:
    packed, other = packed_convs().eval(), packed_convs(alpha=2).eval()
    packed.strategy = "in turn"
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
        packed.members(image())
        for change in ("assign", "double", "format"):
            if change == "assign":
                packed.load_state_dict(copy.deepcopy(other.state_dict()), assign=True)
            elif change == "double":
                packed.double()
            else:
                packed.to(memory_format=torch.channels_last)
            x = image().to(packed.get_parameter("0.weight").dtype)
            packed.strategy = "in turn"
            found = packed.members(x)
            packed.strategy = "grouped"
            torch.testing.assert_close(found, packed.members(x))


def test_transforms_of_torch_func_see_the_parameters() -> None:
    packed = packed_convs().double().eval()
    parameters = {name: parameter.detach() for name, parameter in packed.named_parameters()}
    found = []
    for strategy in ("grouped", "in turn"):
        packed.strategy = strategy
        found.append(grad(lambda values: functional_call(packed, values, (image().double(),)).square().sum())(parameters))
    for name, expected in found[0].items():
        assert expected.any()
        torch.testing.assert_close(found[1][name], expected)


def test_forward_differentiation_sees_the_parameters() -> None:
    packed = packed_convs().double().eval()
    parameters = {name: parameter.detach() for name, parameter in packed.named_parameters()}
    tangents = {name: torch.ones_like(parameter) for name, parameter in parameters.items()}
    found = []
    for strategy in ("grouped", "in turn"):
        packed.strategy = strategy
        call = lambda values: functional_call(packed, values, (image().double(),))  # noqa: E731
        found.append(torch.func.jvp(call, (parameters,), (tangents,))[1])
    assert found[0].any()
    torch.testing.assert_close(found[1], found[0])


def test_inference_mode_and_training_share_a_network() -> None:
    packed = packed_convs().train()
    packed.strategy = "in turn"
    with torch.inference_mode():
        packed.members(image())
    packed.members(image()).sum().backward()
    assert packed.get_parameter("0.weight").grad is not None


def test_a_parametrised_layer_is_seen() -> None:
    class Doubled(nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return 2 * weight

    packed = packed_convs().eval()
    torch.nn.utils.parametrize.register_parametrization(packed.get_submodule("0"), "weight", Doubled())
    found = []
    for strategy in ("grouped", "in turn"):
        packed.strategy = strategy
        found.append(packed.members(image()))
    torch.testing.assert_close(found[1], found[0])
